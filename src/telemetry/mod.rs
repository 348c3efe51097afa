//! What the outside can see of us: logs, metrics, readiness.
//!
//! Takes: facts from the other rooms. Gives: log lines on standard error, the text of `/metrics`, the verdict of `/readyz`. Not here: the
//! HTTP door that shows them.

mod certificates;
mod line_writer;
pub mod log;
pub mod metrics;
mod readiness;
mod seldom;
mod text_fields;

pub use metrics::Metrics;
pub use readiness::{Condition, Readiness, Report, Trouble};
pub use seldom::Seldom;
