//! An answer on its way out. Its call keeps its place until the last byte was taken or given up: otherwise a peer that asks and never reads
//! would make us hold as many answers as it has streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Buf, Bytes, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::visitors::Place;

/// The body of an answer. The default is that of a refusal: empty, and without a place.
#[derive(Default)]
pub struct Answer {
    body: Body,
    place: Option<Arc<Place>>,
}

impl Answer {
    /// An answer that holds a place.
    pub fn new(body: Body, place: Arc<Place>) -> Self {
        let place = Some(place);
        Self { body, place }
    }
}

impl hyper::body::Body for Answer {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        let Self { body, place } = self.get_mut();
        let piece = |bytes| Piece {
            bytes,
            _waiting: place.clone().map(Waiting::new),
        };
        Pin::new(body).poll_frame(context).map_ok(|frame| frame.map_data(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer; HTTP/2 drops it once all of it was handed to the connection, or its stream was given up.
pub struct Piece {
    bytes: Bytes,
    _waiting: Option<Waiting>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

struct Waiting {
    place: Arc<Place>,
    generation: usize,
}

impl Waiting {
    fn new(place: Arc<Place>) -> Self {
        let generation = place.visitor.unread.add();
        Self { place, generation }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.place.visitor.unread.taken(self.generation);
    }
}
