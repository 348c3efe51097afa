//! The one room that speaks Kubernetes: its API, its objects, its credentials.
//!
//! Takes: a way to reach an API server. Gives: answers as values of our own ([`Review`]), and errors that say whose fault it was. Not here:
//! what an answer means for a caller; caches.

mod client;
mod secret;
mod token_review;

pub use client::{ApiServer, CallError, ConnectError, Credentials};
pub use secret::secret_manifest;
pub use token_review::{Review, ReviewError, Slot, TokenReviews};
