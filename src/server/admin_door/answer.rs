//! The CA's status as protobuf.

use crate::authority::rotation::{RootOutlook, Wait};
use crate::authority::steering::{Files, Status};
use crate::model::{CaCertificate, Fingerprint, Timestamp};
use crate::proto::admin::{self, CaStatus, files::State};

pub fn of(status: &Status) -> CaStatus {
    let (chain, stopped) = match &status.chain {
        Ok(chain) => (chain.iter().map(certificate).collect(), String::new()),
        Err(why) => (Vec::new(), why.clone()),
    };
    let outlook = &status.outlook;
    CaStatus {
        source: status.source.to_string(),
        generation: status.generation,
        chain,
        stopped,
        roots: status.roots.iter().map(|it| root(it, &outlook.roots)).collect(),
        change: outlook
            .change
            .as_ref()
            .map(|(root, since, waits)| change(*root, *since, waits)),
        files: Some(files(&status.files)),
        withdrawn: outlook.withdrawn.iter().map(ToString::to_string).collect(),
    }
}

fn certificate(certificate: &CaCertificate) -> admin::Certificate {
    admin::Certificate {
        fingerprint: certificate.fingerprint().to_string(),
        subject: certificate.subject_text().to_owned(),
        not_after: Some(point(certificate.validity().not_after)),
    }
}

fn root(it: &CaCertificate, known: &[RootOutlook]) -> admin::Root {
    let outlook = known.iter().find(|known| known.root == it.fingerprint());
    admin::Root {
        certificate: Some(certificate(it)),
        signs: outlook.is_some_and(|outlook| outlook.signs),
        listed: outlook.is_some_and(|outlook| outlook.listed),
        leaves_until: outlook.and_then(|outlook| outlook.leaves_until).map(point),
    }
}

fn change(root: Fingerprint, since: Timestamp, waits: &[Wait]) -> admin::Change {
    admin::Change {
        root: root.to_string(),
        since: Some(point(since)),
        leaves_until: waits.iter().find_map(|wait| match wait {
            Wait::Leaves { until } => Some(point(*until)),
            Wait::Distribution => None,
        }),
        distribution: waits.contains(&Wait::Distribution),
    }
}

fn files(files: &Files) -> admin::Files {
    let (state, findings) = match files {
        Files::Taken => (State::Taken, Vec::new()),
        Files::Bad(findings) => (State::Bad, findings.iter().map(ToString::to_string).collect()),
        Files::Refused(why) => (State::Refused, vec![why.clone()]),
        Files::Gone => (State::Gone, Vec::new()),
    };
    admin::Files {
        state: state.into(),
        findings,
    }
}

fn point(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.unix(),
        nanos: 0,
    }
}
