//! The table of bad tokens, `tests/vectors/tokens/bad.yaml`: its head explains the columns.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::issue::authenticate::offline::IssuerConfig;
use countersign::model::TrustDomain;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::support::tokens::{TestKey, Token, encode, key_set};
use super::{ApiServer, NOW, Rig, issuer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    header: Map<String, Value>,
    #[serde(default)]
    claims: Map<String, Value>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    header_text: String,
    #[serde(default)]
    claims_text: String,
    #[serde(default)]
    signed_by: Signer,
    #[serde(default = "as_usual")]
    token: String,
    cluster: Option<String>,
    expect: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Signer {
    #[default]
    Rsa,
    P256,
    P384,
    Vm,
    Stranger,
    Hmac,
}

fn as_usual() -> String {
    "{header}.{payload}.{signature}".into()
}

struct Keys {
    rsa: TestKey,
    p256: TestKey,
    p384: TestKey,
    vm: TestKey,
    stranger: TestKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: TestKey::rsa("rsa"),
            p256: TestKey::p256("p256"),
            p384: TestKey::p384("p384"),
            vm: TestKey::p256("vm"),
            stranger: TestKey::other_rsa("rsa"),
        }
    }

    fn of(&self, signer: Signer) -> &TestKey {
        match signer {
            Signer::Rsa | Signer::Hmac => &self.rsa,
            Signer::P256 => &self.p256,
            Signer::P384 => &self.p384,
            Signer::Vm => &self.vm,
            Signer::Stranger => &self.stranger,
        }
    }

    async fn rig(&self) -> Rig {
        let cluster = ApiServer::with_keys(key_set(&[&self.rsa, &self.p256, &self.p384]));
        let vms = ApiServer::with_keys(key_set(&[&self.vm]));
        Rig::ready(vec![
            issuer(cluster.source()),
            IssuerConfig {
                issuer: "https://vms.example.com".into(),
                trust_domain: TrustDomain::parse("vms.example.com").unwrap(),
                namespaces: Some(vec!["vms".into()]),
                cluster: "vms".into(),
                ..issuer(vms.source())
            },
        ])
        .await
    }
}

/// A JSON object with text put in front of its members, as it stands.
fn with_text(text: &str, members: &Map<String, Value>) -> Vec<u8> {
    let object = Value::from(members.clone()).to_string();
    let mut bytes = Vec::new();
    for (index, piece) in format!("{{{text}{}", &object[1..]).split('ÿ').enumerate() {
        if index > 0 {
            bytes.push(0xff);
        }
        bytes.extend(piece.as_bytes());
    }
    bytes
}

fn hmac(secret: &[u8], message: &str) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

/// Two equally long numbers as DER, which is how certificates have ECDSA signatures and tokens do not.
fn der(signature: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for number in signature.chunks(signature.len() / 2) {
                writer.next().write_bigint_bytes(number, true);
            }
        })
    })
}

/// The members in the order in which our struct has them: serde takes an array for a struct unless told otherwise.
fn in_array(claims: &Map<String, Value>) -> String {
    let names = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "kubernetes.io"];
    Value::from(names.map(|name| claims.get(name).cloned().unwrap_or_default()).to_vec()).to_string()
}

/// The last character holds bits that belong to no byte: setting one spells the same bytes a second time.
fn second_spelling(encoded: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ne!(encoded.len() % 4, 0, "no unused bits in {} characters", encoded.len());
    let (rest, last) = encoded.split_at(encoded.len() - 1);
    let value = ALPHABET.iter().position(|char| last.as_bytes() == [*char]).unwrap();
    format!("{rest}{}", char::from(ALPHABET[value | 1]))
}

fn build(row: &Row, keys: &Keys) -> String {
    let key = keys.of(row.signed_by);
    let mut token = Token::new(NOW);
    let mut header = Map::from_iter([
        ("alg".to_owned(), key.algorithm().into()),
        ("kid".to_owned(), key.kid.clone().into()),
    ]);
    let fill = |value: &Value| match value.as_str() {
        Some("{filler}") => "x".repeat(16 * 1024).into(),
        Some("{half filler}") => "x".repeat(2 * 1024).into(),
        _ => value.clone(),
    };
    header.extend(row.header.iter().map(|(name, value)| (name.clone(), fill(value))));
    token
        .claims
        .extend(row.claims.iter().map(|(name, value)| (name.clone(), fill(value))));
    for name in &row.without {
        assert!(token.claims.remove(name).is_some(), "{}: no claim {name}", row.name);
    }
    let claims = with_text(&row.claims_text, &token.claims);
    let (header, payload) = (encode(with_text(&row.header_text, &header)), encode(&claims));
    let signed = format!("{header}.{payload}");
    let signature = match row.signed_by {
        Signer::Hmac => hmac(
            &URL_SAFE_NO_PAD.decode(keys.rsa.jwk()["n"].as_str().unwrap()).unwrap(),
            &signed,
        ),
        _ => key.sign(&signed),
    };
    let mut flipped = signature.clone();
    flipped[40 % signature.len()] ^= 1;
    let other = Token::new(NOW).account("shop", "admin").claims;
    let mut spellings = vec![
        ("{header}", header),
        ("{payload}", payload),
        ("{payload-and-more}", encode([&claims[..], b"{}"].concat())),
        ("{payload-in-array}", encode(in_array(&token.claims))),
        ("{other-payload}", encode(Value::from(other).to_string())),
        ("{signature}", encode(&signature)),
        ("{signature-short}", encode(&signature[..signature.len() - 1])),
        ("{signature-long}", encode([&signature[..], &[0]].concat())),
        ("{signature-flipped}", encode(flipped)),
        ("{signature-zeros}", encode(vec![0; signature.len()])),
    ];
    if row.token.contains("{signature-second-spelling}") {
        spellings.push(("{signature-second-spelling}", second_spelling(&encode(&signature))));
    }
    if row.token.contains("{signature-der}") {
        spellings.push(("{signature-der}", encode(der(&signature))));
    }
    spellings
        .iter()
        .fold(row.token.clone(), |token, (name, text)| token.replace(name, text))
}

#[tokio::test]
async fn bad_tokens_are_refused_each_for_its_own_reason() {
    let rows: Vec<Row> = serde_saphyr::from_str(include_str!("../../vectors/tokens/bad.yaml")).unwrap();
    assert!(rows.len() >= 40);
    let keys = Keys::new();
    let rig = keys.rig().await;
    let mut wrong = Vec::new();
    for row in &rows {
        let token = build(row, &keys);
        let said = rig.says(&token, row.cluster.as_deref());
        if said != row.expect {
            wrong.push(format!("{}: {said}, not {}", row.name, row.expect));
        }
        if let countersign::issue::authenticate::Verdict::Rejected(reason) = rig.verdict(&token, row.cluster.as_deref())
        {
            let leaked = token
                .split('.')
                .find(|part| part.len() > 8 && reason.detail.contains(part));
            assert_eq!(leaked, None, "{}: the reason repeats the token", row.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Otherwise the table would prove nothing.
#[tokio::test]
async fn what_the_bad_tokens_are_made_of_is_good() {
    let keys = Keys::new();
    let rig = keys.rig().await;
    for signer in [Signer::Rsa, Signer::P256, Signer::P384] {
        let row = Row {
            name: "good".into(),
            header: Map::new(),
            claims: Map::new(),
            without: vec![],
            header_text: String::new(),
            claims_text: String::new(),
            signed_by: signer,
            token: as_usual(),
            cluster: None,
            expect: String::new(),
        };
        assert_eq!(
            rig.says(&build(&row, &keys), None),
            "accepted spiffe://cluster.local/ns/shop/sa/cart"
        );
    }
}

/// Every byte of a good token matters: changed in any one place it is good no more.
#[tokio::test]
async fn no_character_of_a_token_can_be_changed() {
    let keys = Keys::new();
    let rig = keys.rig().await;
    for key in [&keys.rsa, &keys.p256] {
        let token = Token::new(NOW).mint(key);
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let said = rig.says(&changed, None);
            assert!(!said.starts_with("accepted"), "character {position}: {said}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

    /// Whatever stands in the parts of a token, nothing panics and nobody is recognised.
    #[test]
    fn junk_is_nobody(
        header in "\\PC{0,40}|\\{\"alg\":\"(ES256|RS256|none)\"(,\"kid\":\"(rsa|p256)\")?\\}",
        payload in "\\PC{0,40}|\\{\"iss\":\"https://vms.example.com\"(,\"(aud|exp|sub|kubernetes.io)\":(\\{\\}|\\[\\]|\"a\"|-1|null)){0,3}\\}",
        signature: [u8; 64],
        encoded: bool,
    ) {
        thread_local! {
            static RIG: Rig = {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(Keys::new().rig())
            };
        }
        let token = match encoded {
            true => format!("{}.{}.{}", encode(header), encode(payload), encode(signature)),
            false => format!("{header}.{payload}.{}", encode(signature)),
        };
        let said = RIG.with(|rig| rig.says(&token, None));
        proptest::prop_assert!(!said.starts_with("accepted"), "{token}: {said}");
    }
}
