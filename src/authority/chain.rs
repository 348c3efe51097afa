//! The way from the signing certificate up to a root that clients trust.
//!
//! Takes: the signer, whatever other certificates lie around, the roots. Gives: the shortest sound path, or what is wrong with the best
//! there is. Not here: files, keys.

use super::certificates::Placed;
use super::finding::Report;
use super::link;
use super::member;
use crate::model::Timestamp;

/// A path: the signer, each one's issuer, and the root that signed the last. A signer that is itself a root has no issuers.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub members: Vec<&'a Placed>,
    pub root: &'a Placed,
}

struct Step<'a> {
    placed: &'a Placed,
    below: Option<usize>,
    depth: u32,
}

/// Finds the path. Cross-signed and renewed certificates make several: one whose every member is sound now is preferred, then the shortest.
/// Reports every fault of the one taken, or why there is none.
pub(super) fn find<'a>(
    signer: &'a Placed,
    others: &'a [Placed],
    roots: &'a [Placed],
    now: Timestamp,
    report: &mut Report,
) -> Option<Path<'a>> {
    let path = search(signer, others, roots, Some(now)).or_else(|_| search(signer, others, roots, None));
    match path {
        Ok(path) => {
            let mut faults = Vec::new();
            for (depth, placed) in path.certificates().enumerate() {
                faults.extend(member::faults(placed, depth as u32, placed.is(path.root), now));
            }
            let sound = faults.is_empty();
            report.errors.extend(faults);
            sound.then_some(path)
        }
        Err(reached) => {
            report.errors.extend(member::faults(signer, 0, false, now));
            explain(&reached, others, roots, report);
            None
        }
    }
}

impl<'a> Path<'a> {
    /// Every certificate of it, the signer first, the root last, none twice.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &'a Placed> {
        let root = self.root;
        let members = self.members.clone();
        let above = (!members.iter().any(|member| member.is(root))).then_some(root);
        members.into_iter().chain(above)
    }
}

/// Breadth first, so that each certificate is reached at its smallest depth: path lengths count depth. With a time, only through
/// certificates that are sound at it. The error is everything that was reached.
fn search<'a>(
    signer: &'a Placed,
    others: &'a [Placed],
    roots: &'a [Placed],
    sound_at: Option<Timestamp>,
) -> Result<Path<'a>, Vec<&'a Placed>> {
    let fits = |placed: &Placed, depth: u32, is_root: bool| {
        sound_at.is_none_or(|now| member::faults(placed, depth, is_root, now).is_empty())
    };
    let signed_by = |certificate: &Placed, issuer: &Placed| {
        link::is_named(&certificate.certificate, &issuer.certificate)
            && link::check(&certificate.certificate, &issuer.certificate, &issuer.place).is_ok()
    };
    let mut steps = vec![Step {
        placed: signer,
        below: None,
        depth: 0,
    }];
    let mut next = 0;
    while let Some(step) = steps.get(next) {
        let (placed, depth) = (step.placed, step.depth);
        let root = roots
            .iter()
            .find(|root| root.is(placed) && fits(root, depth, true))
            .or_else(|| {
                roots
                    .iter()
                    .find(|root| !root.is(placed) && signed_by(placed, root) && fits(root, depth + 1, true))
            });
        if let Some(root) = root {
            let mut members = Vec::new();
            let mut at = Some(next);
            while let Some(step) = at.and_then(|at| steps.get(at)) {
                members.push(step.placed);
                at = step.below;
            }
            members.reverse();
            return Ok(Path { members, root });
        }
        let found: Vec<Step<'a>> = others
            .iter()
            .filter(|other| !steps.iter().any(|step| step.placed.is(other)))
            .filter(|other| signed_by(placed, other) && fits(other, depth + 1, false))
            .map(|placed| Step {
                placed,
                below: Some(next),
                depth: depth + 1,
            })
            .collect();
        steps.extend(found);
        next += 1;
    }
    Err(steps.into_iter().map(|step| step.placed).collect())
}

/// Says why nothing that was reached leads to a root: issuers that fail on a closer look, or else the names that are missing.
fn explain(reached: &[&Placed], others: &[Placed], roots: &[Placed], report: &mut Report) {
    let before = report.errors.len();
    for placed in reached {
        for issuer in others.iter().chain(roots) {
            if placed.is(issuer) || !link::is_named(&placed.certificate, &issuer.certificate) {
                continue;
            }
            if let Err(broken) = link::check(&placed.certificate, &issuer.certificate, &issuer.place) {
                report.refuse(&placed.place, &broken, broken.remedy());
            }
        }
    }
    if report.errors.len() > before {
        return;
    }
    let seen = |placed: &[Placed]| {
        let names: Vec<String> = placed.iter().map(Placed::subject).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    for placed in reached {
        let named = |issuer: &&Placed| !placed.is(issuer) && link::is_named(&placed.certificate, &issuer.certificate);
        if others.iter().any(|other| named(&other)) {
            continue; // Its issuer was reached, and is where the path ends.
        }
        let (what, remedy) = if placed.certificate.is_self_issued() {
            (
                "it is self-signed and not among the roots".to_owned(),
                "add it to the roots, if that is what it is meant to be",
            )
        } else {
            (
                format!(
                    "the certificate of its issuer {:?} is missing",
                    placed.certificate.issuer_text()
                ),
                "add that certificate: to the roots if it is one, else to the chain",
            )
        };
        report.refuse(
            &placed.place,
            format!("{what} (roots: {}; others: {})", seen(roots), seen(others)),
            remedy,
        );
    }
}
