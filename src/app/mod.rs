//! The wiring: settings as written become a checked configuration, and that becomes a running program. The only room that picks
//! implementations.
//!
//! Takes: settings. Gives: a running [`serve::App`], or every reason why not. Not here: how anything is done.

pub mod admin;
pub mod authenticators;
pub mod config;
pub mod demo;
pub mod duration;
pub mod init;
pub mod look;
pub mod names;
pub mod read_settings;
pub mod serve;
pub mod settings;
pub mod token_issuer;
