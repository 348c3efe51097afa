//! Every rule has a certificate that breaks it and nothing else: without the rule its case is found no more.

use std::sync::Arc;

use super::super::super::plan::{self, Plan};
use super::super::super::testing::{self, NOW, TestCa, circumstances, csr, grant, profile};
use super::*;
use crate::model::{Lifetime, Serial, Validity, der};

/// A planned certificate taken apart.
struct Case {
    /// The members of the TBSCertificate: version, serial, signature, issuer, validity, subject, key, extensions.
    members: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
    facts: Facts,
    key: Vec<u8>,
    ca: Arc<CaSnapshot>,
}

const SERIAL: usize = 1;
const SIGNATURE: usize = 2;
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const KEY: usize = 6;

/// Positions of the extensions.
const USAGE: usize = 0;
const PURPOSES: usize = 1;
const BASIC: usize = 2;
const KEY_ID: usize = 3;
const AUTHORITY: usize = 4;
const NAMES: usize = 5;

impl Case {
    fn of(plan: Plan, key: Vec<u8>) -> Self {
        let members = der::members::<8>(der::SEQUENCE, &plan.to_be_signed).unwrap();
        let mut extensions = Vec::new();
        let list = der::only(der::SEQUENCE, members[7].content).unwrap();
        der::each(list, |extension| {
            extensions.push(extension.whole.to_vec());
            Some(())
        });
        Self {
            members: members[..7].iter().map(|member| member.whole.to_vec()).collect(),
            extensions,
            facts: plan.facts,
            key,
            ca: plan.ca,
        }
    }

    fn workload() -> Self {
        Self::workload_of("p256", TestCa::default())
    }

    fn workload_of(name: &str, ca: TestCa) -> Self {
        let csr = csr(name);
        let plan = plan::workload(grant(), &csr, 0, &profile(), circumstances(&ca.build())).unwrap();
        Self::of(plan, csr.public_key_info().to_vec())
    }

    fn server() -> Self {
        let names = ["istiod.istio-system.svc", "10.0.0.1", "fd00::1"].map(|name| name.parse().unwrap());
        let (key, info) = testing::key("p256");
        let lifetime = Lifetime::from_seconds(3600).unwrap();
        let ca = TestCa::default().build();
        let plan = plan::server(
            names.into(),
            &info,
            key.algorithm(),
            lifetime,
            &profile(),
            circumstances(&ca),
        );
        Self::of(plan.unwrap(), info)
    }

    fn lint(&self) -> Result<(), String> {
        let list = element(0xa3, &element(0x30, &self.extensions.concat()));
        let to_be_signed = element(0x30, &[self.members.concat(), list].concat());
        lint(&to_be_signed, &self.facts, &self.key, &self.ca).map_err(|finding| finding.to_string())
    }

    /// Puts an extension's content in place of the one at a position.
    fn says(&mut self, position: usize, content: &[u8]) {
        let (oid, critical) = match der::members::<3>(0x30, &self.extensions[position]) {
            Some([oid, critical, _]) => (oid.whole, critical.whole),
            None => {
                let [oid, _] = der::members(0x30, &self.extensions[position]).unwrap();
                (oid.whole, &[][..])
            }
        };
        self.extensions[position] = element(0x30, &[oid, critical, &element(4, content)].concat());
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        let class = yasna::Tag::context(u64::from(tag & 0x1f));
        writer.write_tagged_implicit(class, |writer| writer.write_bytes(content));
    })
    .into_iter()
    .enumerate()
    .map(|(position, byte)| if position == 0 { tag } else { byte })
    .collect()
}

fn extension(arc: u8, critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    element(
        0x30,
        &[&[6, 3, 0x55, 0x1d, arc][..], critical, &element(4, content)].concat(),
    )
}

fn uri(text: &str) -> Vec<u8> {
    element(0x86, text.as_bytes())
}

#[test]
fn finds_nothing_in_what_we_write() {
    for case in [
        Case::workload(),
        Case::workload_of("rsa-2048", TestCa::default()),
        Case::server(),
    ] {
        assert_eq!(case.lint(), Ok(()));
    }
    let without = TestCa {
        has_key_id: false,
        ..TestCa::default()
    };
    assert_eq!(Case::workload_of("ed25519", without).lint(), Ok(()));
}

fn finds(rule: &str, what: &str, break_it: impl FnOnce(&mut Case)) {
    let mut case = Case::workload();
    break_it(&mut case);
    assert_eq!(case.lint(), Err(rule.to_owned()), "{what}");
}

#[test]
fn every_field_has_its_rule() {
    finds("the bytes are not one TBSCertificate", "garbage", |case| {
        case.members[SUBJECT] = vec![5, 0]
    });
    finds("the bytes are not one TBSCertificate", "one member too many", |case| {
        case.extensions.clear();
        case.members.push(element(0xa3, &element(0x30, &[])));
    });
    finds(
        "the bytes are not one TBSCertificate",
        "a length that is not minimal",
        |case| {
            case.members[SUBJECT] = vec![0x30, 0x81, 0];
        },
    );
    finds("the version is not 3", "version 2", |case| {
        case.members[0] = vec![0xa0, 3, 2, 1, 1]
    });
    finds("the version is not 3", "version 1", |case| {
        case.members.remove(0);
    });
    finds("the serial number is another one", "one bit", |case| {
        case.members[SERIAL][18] ^= 1
    });
    let sign = "the serial number is not positive and at most 20 bytes";
    for first in [0, 0x80] {
        finds(sign, "its first byte", |case| {
            case.members[SERIAL][2] = first;
            let mut bytes = [0xab; 17];
            bytes[0] = first;
            case.facts.serial = Serial::unchecked(bytes);
        });
    }
    finds(
        "the signature algorithm is not the one that the key signs with",
        "SHA-384",
        |case| {
            case.members[SIGNATURE] = crate::model::key_algorithm::SignatureAlgorithm::EcdsaSha384
                .der()
                .to_vec();
        },
    );
    finds(
        "the signature algorithm is not the one that the key signs with",
        "NULL",
        |case| {
            case.members[SIGNATURE] = element(0x30, &[&case.members[SIGNATURE][2..], &[5, 0]].concat());
        },
    );
    let issuer = "the issuer is not the signer's subject byte for byte";
    finds(issuer, "the same name in another string type", |case| {
        let position = case.members[ISSUER].iter().position(|byte| *byte == 0x13).unwrap();
        case.members[ISSUER][position] = 0x0c;
    });
    finds(issuer, "empty", |case| case.members[ISSUER] = vec![0x30, 0]);
    finds("NotBefore is another one", "one second", |case| {
        case.members[VALIDITY][15] ^= 1
    });
    finds("NotAfter is another one", "one second", |case| {
        case.members[VALIDITY][30] ^= 1
    });
    finds("NotAfter is another one", "GeneralizedTime before 2050", |case| {
        let [start, end] = der::members(0x30, &case.members[VALIDITY]).unwrap();
        let long = element(0x18, &[b"20", end.content].concat());
        case.members[VALIDITY] = element(0x30, &[start.whole, &long].concat());
    });
    finds("it is never valid", "it ends as it begins", |case| {
        let start = case.members[VALIDITY][2..17].to_vec();
        case.members[VALIDITY][17..].copy_from_slice(&start);
        case.facts.validity.not_after = case.facts.validity.not_before;
    });
    finds("it outlives a certificate above it", "by a day", |case| {
        let validity = Validity {
            not_before: NOW.plus(-9000),
            not_after: NOW.plus(3600),
        };
        case.ca = TestCa {
            validity,
            ..TestCa::default()
        }
        .build();
    });
    finds("the subject is not empty", "a common name", |case| {
        case.members[SUBJECT] = testing::plain_name();
    });
    finds("the public key is another one", "of another CSR", |case| {
        case.members[KEY] = testing::key("p384").1;
    });
    finds("it has unique identifiers", "of the issuer", |case| {
        case.members.push(vec![0x81, 2, 0, 1])
    });
    finds("it has unique identifiers", "of the subject", |case| {
        case.members.push(vec![0x82, 2, 0, 1])
    });
}

/// What is found when the extension at a position says something else.
const SAYS: [&str; 6] = [
    "the key usage does not fit the key",
    "the extended key usage is another one",
    "the basic constraints are not those of a leaf",
    "the subject key identifier is not that of the key",
    "the authority key identifier is not the signer's",
    "the names are not exactly the ones that it should have",
];
const FOREIGN: &str = "an extension that we never write";

#[test]
fn every_extension_has_its_content() {
    finds(SAYS[USAGE], "usage: keyEncipherment for an EC key", |case| {
        case.says(USAGE, &[3, 2, 5, 0xa0])
    });
    finds(SAYS[USAGE], "usage: keyCertSign too", |case| {
        case.says(USAGE, &[3, 2, 2, 0x84])
    });
    finds(SAYS[USAGE], "usage: none", |case| case.says(USAGE, &[3, 1, 0]));
    finds(SAYS[USAGE], "usage: zero bits after the last one", |case| {
        case.says(USAGE, &[3, 2, 0, 0x80])
    });
    let purpose = |arc| vec![6, 8, 0x2b, 6, 1, 5, 5, 7, 3, arc];
    let both = [purpose(1), purpose(2)].concat();
    finds(SAYS[PURPOSES], "purposes: no client", |case| {
        case.says(PURPOSES, &element(0x30, &purpose(1)))
    });
    finds(SAYS[PURPOSES], "purposes: no server", |case| {
        case.says(PURPOSES, &element(0x30, &purpose(2)))
    });
    finds(SAYS[PURPOSES], "purposes: in another order", |case| {
        case.says(PURPOSES, &element(0x30, &[purpose(2), purpose(1)].concat()))
    });
    for more in [
        purpose(3),
        purpose(4),
        purpose(8),
        purpose(9),
        purpose(17),
        vec![6, 4, 0x55, 0x1d, 0x25, 0],
    ] {
        finds(SAYS[PURPOSES], "purposes: one more", |case| {
            case.says(PURPOSES, &element(0x30, &[&both[..], &more].concat()));
        });
    }
    finds(SAYS[BASIC], "a CA", |case| case.says(BASIC, &[0x30, 3, 1, 1, 0xff]));
    finds(SAYS[BASIC], "a path length", |case| {
        case.says(BASIC, &[0x30, 3, 2, 1, 0])
    });
    finds(SAYS[KEY_ID], "another key id", |case| {
        case.says(KEY_ID, &element(4, &[7; 20]))
    });
    let id = case_key_id();
    finds(SAYS[AUTHORITY], "another authority", |case| {
        case.says(AUTHORITY, &element(0x30, &element(0x80, &[7; 20])))
    });
    finds(SAYS[AUTHORITY], "no authority key id", |case| {
        case.says(AUTHORITY, &[0x30, 0])
    });
    finds(SAYS[AUTHORITY], "authority by name too", |case| {
        let name = element(0xa1, &element(0xa4, &testing::plain_name()));
        case.says(AUTHORITY, &element(0x30, &[element(0x80, &id), name].concat()));
    });
    finds(SAYS[AUTHORITY], "authority by serial too", |case| {
        case.says(
            AUTHORITY,
            &element(0x30, &[element(0x80, &id), vec![0x82, 1, 7]].concat()),
        );
    });
    let other = "spiffe://cluster.local/ns/default/sa/other";
    for (what, names) in [
        ("another identity", uri(other)),
        ("two identities", [uri(testing::IDENTITY), uri(other)].concat()),
        ("the same one twice", uri(testing::IDENTITY).repeat(2)),
        ("a DNS name", element(0x82, testing::IDENTITY.as_bytes())),
        ("a DNS name too", [uri(testing::IDENTITY), element(0x82, b"x")].concat()),
        ("none", vec![]),
    ] {
        finds(SAYS[NAMES], what, |case| case.says(NAMES, &element(0x30, &names)));
    }
    finds(FOREIGN, "name constraints", |case| {
        case.extensions.push(extension(30, true, &[0x30, 0]))
    });
    finds(SAYS[BASIC], "an unreadable one", |case| case.says(BASIC, &[5, 0]));
}

fn case_key_id() -> Vec<u8> {
    TestCa::default().build().signer().key_id().unwrap().to_vec()
}

#[test]
fn an_rsa_key_also_enciphers() {
    let mut case = Case::workload_of("rsa-2048", TestCa::default());
    case.says(USAGE, &[3, 2, 7, 0x80]);
    assert_eq!(case.lint(), Err(SAYS[USAGE].to_owned()));
}

#[test]
fn a_server_is_no_client_and_has_exactly_its_names() {
    let server = |break_it: &dyn Fn(&mut Case)| {
        let mut case = Case::server();
        break_it(&mut case);
        case.lint()
    };
    let refused = Err(SAYS[NAMES].to_owned());
    let both = [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    assert_eq!(
        server(&|case| case.says(PURPOSES, &element(0x30, &both))),
        Err(SAYS[PURPOSES].to_owned())
    );
    let (dns, four) = (element(0x82, b"istiod.istio-system.svc"), element(0x87, &[10, 0, 0, 1]));
    let six = |last| element(0x87, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let names = |list: &[&[u8]]| {
        let list = element(0x30, &list.concat());
        server(&|case| case.says(NAMES, &list))
    };
    assert_eq!(names(&[&dns, &four, &six(1)]), Ok(()));
    assert_eq!(names(&[&dns, &four]), refused);
    assert_eq!(names(&[&dns, &four, &six(1), &dns]), refused);
    assert_eq!(names(&[&four, &dns, &six(1)]), refused);
    assert_eq!(names(&[&element(0x82, b"other"), &four, &six(1)]), refused);
    assert_eq!(names(&[&dns, &element(0x87, &[10, 0, 0, 2]), &six(1)]), refused);
    assert_eq!(names(&[&dns, &four, &six(2)]), refused);
    assert_eq!(names(&[&uri(testing::IDENTITY), &four, &six(1)]), refused);
    let nameless = server(&|case| {
        case.facts.subject = Subject::Server(vec![]);
        case.says(NAMES, &[0x30, 0]);
    });
    assert_eq!(nameless, refused);
}

#[test]
fn extensions_are_exactly_these_in_this_order() {
    let exactly = "the extensions are not exactly the ones that it should have";
    for position in [USAGE, PURPOSES, BASIC, KEY_ID, AUTHORITY, NAMES] {
        finds(exactly, "one is missing", |case| {
            case.extensions.remove(position);
        });
        finds(exactly, "its critical flag is the other one", |case| {
            let [arc, critical] = [case.extensions[position][6], case.extensions[position][7]];
            let (value, critical) = match critical {
                1 => (der::members::<3>(0x30, &case.extensions[position]).unwrap()[2], true),
                _ => (der::members::<2>(0x30, &case.extensions[position]).unwrap()[1], false),
            };
            case.extensions[position] = extension(arc, !critical, value.content);
        });
    }
    finds(exactly, "two changed places", |case| {
        case.extensions.swap(BASIC, KEY_ID)
    });
    finds(exactly, "an authority key id where the signer has none", |case| {
        case.ca = TestCa {
            has_key_id: false,
            ..TestCa::default()
        }
        .build();
        case.says(AUTHORITY, &[0x30, 0]);
    });
    finds(FOREIGN, "one of somebody else", |case| {
        let oid = [6, 7, 0x2b, 6, 1, 4, 1, 0x82, 0x37];
        case.extensions
            .push(element(0x30, &[&oid[..], &element(4, &[5, 0])].concat()));
    });
    finds(exactly, "one stands there twice", |case| {
        case.extensions.push(case.extensions[BASIC].clone())
    });
    for flag in [0, 1] {
        finds(
            "the bytes are not one TBSCertificate",
            "critical in another spelling",
            |case| {
                let [_, _, value] = der::members::<3>(0x30, &case.extensions[BASIC]).unwrap();
                let members = [&[6, 3, 0x55, 0x1d, 19, 1, 1, flag], value.whole].concat();
                case.extensions[BASIC] = element(0x30, &members);
            },
        );
    }
}
