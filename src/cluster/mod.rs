//! The one room that speaks Kubernetes: its API, its objects, its credentials.
//!
//! Takes: a way to reach an API server. Gives: answers as values of our own ([`Review`], [`Namespace`], [`RootConfigMap`]), and errors that
//! say whose fault it was. Not here: what an answer means for a caller or what is to be done about an object; caches.

mod client;
mod follow;
mod objects;
mod root_config_maps;
mod secret;
mod token_review;

pub use client::{ApiServer, CallError, ConnectError, Credentials};
pub use follow::{Collection, Seen, follow, namespaces, root_config_maps};
pub use objects::{Namespace, ObjectError, ROOT_KEY, RootConfigMap};
pub use root_config_maps::{RootConfigMaps, WRITER};
pub use secret::secret_manifest;
pub use token_review::{Review, ReviewError, Slot, TokenReviews};
