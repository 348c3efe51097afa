//! A CA made elsewhere: certificate, key, intermediates and roots from files, judged together.
//!
//! Takes: a directory, or the files' bytes. Gives: a [`LoadedCa`] and every finding. Writes nothing. Not here: what any single certificate
//! or link must be (`member`, `link`), the search for the path (`chain`).

use std::path::Path;

use super::certificates::{self, Placed};
use super::finding::Report;
use super::layout::{self, Files, Layout};
use super::{LoadedCa, chain, key, member};
use crate::model::{Bundle, Timestamp, pem};
use crate::platform::files::FileError;

/// Loads the CA of a directory. `None` with nothing reported: there is no file of a plugged-in CA.
pub(super) fn load(directory: &Path, now: Timestamp, report: &mut Report) -> Result<Option<LoadedCa>, FileError> {
    let Some(layout) = layout::of(directory)? else {
        return Ok(None);
    };
    Ok(layout::read(directory, layout, report)?.and_then(|files| assemble(layout, &files, now, report)))
}

/// Puts a CA together from its files. Whatever is an error in the report stands in its way; everything that can be found is reported at once.
pub(super) fn assemble(layout: &Layout, files: &Files, now: Timestamp, report: &mut Report) -> Option<LoadedCa> {
    let own = certificates::read(layout.certificate, &files.certificate, report);
    let roots = certificates::read(layout.roots, &files.roots, report);
    let chain = match (layout.chain, &files.chain) {
        (Some(name), Some(bytes)) if !pem::is_blank(bytes) => certificates::read(name, bytes, report),
        _ => Vec::new(),
    };
    let whole = report.errors.is_empty();
    let found = key::find(layout.key, &files.key, report);
    // The certificate that the key belongs to, wherever it stands; without one, the first: the report then says that they do not match.
    let signer = own
        .iter()
        .find(|placed| found.as_ref().is_some_and(|found| found.belongs_to(placed)))
        .or(own.first())?;
    let key = found.and_then(|found| found.read(layout.key, signer, report));
    let others = intermediates(&[&own, &chain], signer, &roots, report);
    judge_roots(&roots, report);
    if !whole {
        // What a path lacks may stand in what could not be read.
        let is_root = roots.iter().any(|root| root.is(signer));
        report.errors.extend(member::faults(signer, 0, is_root, now));
        return None;
    }
    let path = chain::find(signer, &others, &roots, now, report)?;
    warn(&path, [&own, &chain], &others, &roots, now, report);
    if !report.errors.is_empty() {
        return None;
    }
    let members = path.members.iter().map(|placed| placed.certificate.clone()).collect();
    let bundle = Bundle::new(roots.iter().map(|root| root.certificate.clone()))?;
    LoadedCa::new(key?, members, bundle)
        .map_err(|error| report.refuse(layout.key, error, "make the CA anew"))
        .ok()
}

/// Everything that may stand between the signer and a root, none twice.
fn intermediates(files: &[&[Placed]], signer: &Placed, roots: &[Placed], report: &mut Report) -> Vec<Placed> {
    let mut found: Vec<Placed> = Vec::new();
    for placed in files.iter().copied().flatten() {
        if placed.is(signer) || found.iter().any(|known| known.is(placed)) {
            continue;
        }
        if roots.iter().any(|root| root.is(placed)) {
            // What Istio's makefiles write. An answer that held the root in its chain would hold it twice.
            report.warn(
                &placed.place,
                "it is a root, and is left out of the chain",
                "nothing needs to be done; removing it from this file ends the warning",
            );
            continue;
        }
        found.push(placed.clone());
    }
    found
}

/// Every root is handed to every client, also those that nothing of ours leads to.
fn judge_roots(roots: &[Placed], report: &mut Report) {
    for root in roots {
        if !root.certificate.is_ca() {
            report.refuse(
                &root.place,
                format!(
                    "{} is not a CA certificate: it lacks the basic constraint CA:TRUE",
                    root.subject()
                ),
                "keep only the certificates of CAs among the roots",
            );
        } else if !root.certificate.is_self_issued() {
            report.warn(
                &root.place,
                format!(
                    "{} is not self-signed; OpenSSL by default takes no such root",
                    root.subject()
                ),
                "put the certificate at the top of its chain there instead",
            );
        }
    }
}

fn warn(
    path: &chain::Path<'_>,
    files: [&[Placed]; 2],
    others: &[Placed],
    roots: &[Placed],
    now: Timestamp,
    report: &mut Report,
) {
    let position = |placed: &Placed| path.members.iter().position(|member| member.is(placed));
    for file in files {
        let order: Vec<_> = file
            .iter()
            .filter_map(|placed| Some((position(placed)?, placed)))
            .collect();
        if let Some([_, (_, early)]) = order.array_windows().find(|[(one, _), (two, _)]| one > two) {
            report.warn(
                &early.place,
                "it stands behind its issuer; the certificates were sorted",
                "write the signing certificate first, then each one's issuer",
            );
        }
    }
    for unused in others.iter().filter(|other| position(other).is_none()) {
        report.warn(
            &unused.place,
            format!("{} is not part of the chain, and is left out", unused.subject()),
            "remove it, or add what connects it",
        );
    }
    if let Some(signer) = path.members.first()
        && signer.certificate.key_id().is_none()
    {
        report.warn(
            &signer.place,
            "it has no subject key identifier, so certificates under it have no authority key identifier",
            "nothing needs to be done; give the next one a subject key identifier",
        );
    }
    let all: Vec<&Placed> = path.certificates().collect();
    for placed in &all {
        member::warn(placed, now, report);
    }
    for [below, above] in all.array_windows() {
        let (early, late) = (
            above.certificate.validity().not_after,
            below.certificate.validity().not_after,
        );
        if early < late {
            report.warn(
                &above.place,
                format!(
                    "it expires at {early}, before {}, which it signed, does at {late}",
                    below.place
                ),
                "renew it in time: nothing below it is of use for longer",
            );
        }
    }
    for root in roots.iter().filter(|root| !all.iter().any(|used| used.is(root))) {
        let validity = root.certificate.validity();
        if !validity.contains(now) {
            report.warn(
                &root.place,
                format!(
                    "{} is valid only from {} to {}",
                    root.subject(),
                    validity.not_before,
                    validity.not_after
                ),
                "remove it from the roots if it has expired",
            );
        }
    }
}
