//! The wiring: settings as written become a checked configuration, and that becomes a running program. The only room that picks
//! implementations.
//!
//! Takes: a settings file, the environment. Gives: a running CA, or every reason why there is none. Not here: what any part of it does.

pub mod authenticators;
pub mod ca;
pub mod config;
pub mod duration;
pub mod read_settings;
pub mod serve;
pub mod settings;
pub mod token_issuer;
