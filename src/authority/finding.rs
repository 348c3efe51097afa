//! What is wrong with a CA's files, or worth knowing about them, in words that an admin can act on.

use std::fmt;

/// One thing found: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, with the certificate's position when the file holds several.
    pub place: String,
    /// What was found there.
    pub what: String,
    /// What to do next.
    pub remedy: String,
}

impl Finding {
    pub(super) fn new(place: impl fmt::Display, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self {
            place: place.to_string(),
            what: what.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.remedy)
    }
}

/// Several findings in one line, numbered when there is more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl From<Vec<Finding>> for Findings {
    fn from(findings: Vec<Finding>) -> Self {
        Self(findings)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => only.fmt(f),
            several => {
                for (index, finding) in several.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(f, "{gap}({}) {finding}", index + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// Everything found on the way to a CA: what stands in its way, and what does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// With any of these there is no CA.
    pub errors: Vec<Finding>,
    /// The CA works; someone should look.
    pub warnings: Vec<Finding>,
}

impl Report {
    pub(super) fn refuse(&mut self, place: impl fmt::Display, what: impl fmt::Display, remedy: impl fmt::Display) {
        let finding = Finding::new(place, what, remedy);
        // A file may be looked at twice: as the certificate and as the roots.
        if !self.errors.contains(&finding) {
            self.errors.push(finding);
        }
    }

    pub(super) fn warn(&mut self, place: impl fmt::Display, what: impl fmt::Display, remedy: impl fmt::Display) {
        self.warnings.push(Finding::new(place, what, remedy));
    }
}
