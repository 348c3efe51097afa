//! One write for everything that a connection has to say in one turn. HTTP/2 flushes after each frame with data; below it, each flush is a
//! TLS record, a system call and a packet. Here frames are gathered while the connection is being polled and leave when it has nothing
//! more to do, which under load is one write for the answers to many calls.
//!
//! Takes: a stream. Gives: the same stream for HTTP/2, and a [`Corked::drive`] that polls the connection and then lets the bytes out.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// From so many bytes on, HTTP/2 waits until they have left: a peer that does not read makes us hold no more. Two full TLS records.
const MOST: usize = 32 * 1024;

/// Of the connection, or of the stream below it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A handle on a stream whose writes wait for [`Corked::drive`].
pub struct Corked<S>(Arc<Mutex<Gathered<S>>>);

struct Gathered<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of `waiting` has left.
    left: usize,
    /// The stream holds bytes that its own flush must push out.
    unflushed: bool,
    /// The peer said that it sends no more.
    ended: bool,
}

impl<S> Corked<S> {
    /// Corks a stream.
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Gathered {
            stream,
            waiting: Vec::new(),
            left: 0,
            unflushed: false,
            ended: false,
        })))
    }

    /// Another handle on the same stream.
    pub fn handle(&self) -> Self {
        Self(self.0.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<S>> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Runs `connection`, which writes to the other handle, to its end; lets out what it wrote whenever it pauses.
    pub async fn drive<T, E: Into<Failure>>(
        &self,
        mut connection: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Result<T, Failure> {
        poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            if polled.is_pending() {
                // When the peer does not take them now, this task is woken when it does.
                if let Poll::Ready(Err(error)) = self.lock().poll_out(context) {
                    return Poll::Ready(Err(error.into()));
                }
            }
            polled.map_err(Into::into)
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.waiting.get(self.left..) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.left += written,
            }
            self.unflushed = true;
        }
        self.waiting.clear();
        self.left = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
            // An idle connection holds no buffer.
            if self.waiting.capacity() > 0 {
                self.waiting = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() - self.left >= MOST {
            return self.poll_out(context);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.lock();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut gathered.stream).poll_read(context, buffer))?;
        gathered.ended |= buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut gathered = self.lock();
        ready!(gathered.poll_room(context))?;
        gathered.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.lock();
        ready!(gathered.poll_room(context))?;
        slices
            .iter()
            .for_each(|slice| gathered.waiting.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Later, in [`Corked::drive`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.lock();
        // Nobody reads our farewell once the peer has closed, and it would cost two system calls.
        if gathered.ended {
            return Poll::Ready(Ok(()));
        }
        ready!(gathered.poll_out(context))?;
        Pin::new(&mut gathered.stream).poll_shutdown(context)
    }
}
