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
/// Room for an answer, so that it is not made bit by bit.
const USUAL: usize = 4 * 1024;

/// What a client says first (RFC 9113, 3.4): 24 bytes, and a frame of settings, of which the header takes 9.
const OPENING: usize = 24 + 9;

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
    /// How much of the peer's opening is still to come; nothing once its turn has passed.
    opening: Option<usize>,
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
            opening: Some(OPENING),
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
            let mut gathered = self.lock();
            if polled.is_pending() && !gathered.waits(context) {
                // When the peer does not take them now, this task is woken when it does.
                if let Poll::Ready(Err(error)) = gathered.poll_out(context) {
                    return Poll::Ready(Err(error.into()));
                }
            }
            polled.map_err(Into::into)
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Whether our settings stay back: until the client's are here, which it sends without having seen ours, and then for one turn of the
    /// tasks that its first calls started. Our settings, their acknowledgement and a first answer then leave together.
    fn waits(&mut self, context: &mut Context<'_>) -> bool {
        match self.opening {
            Some(0) => {
                self.opening = None;
                context.waker().wake_by_ref();
                true
            }
            opening => opening.is_some(),
        }
    }

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
            ready!(self.poll_out(context))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(USUAL);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.lock();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut gathered.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        gathered.ended |= read == 0 && buffer.remaining() > 0;
        if let Some(opening) = &mut gathered.opening {
            *opening = opening.saturating_sub(read);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Writes to a [`duplex`] pipe and counts how often.
    struct Counted(tokio::io::DuplexStream, Arc<Mutex<usize>>);

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, c: &mut Context<'_>, b: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(c, b)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, c: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            *self.1.lock().unwrap() += 1;
            Pin::new(&mut self.0).poll_write(c, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(c)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(c)
        }
    }

    fn corked(room: usize) -> (Corked<Counted>, tokio::io::DuplexStream, Arc<Mutex<usize>>) {
        let (ours, theirs) = duplex(room);
        let writes = Arc::new(Mutex::new(0));
        (Corked::new(Counted(ours, writes.clone())), theirs, writes)
    }

    fn opened(room: usize) -> (Corked<Counted>, tokio::io::DuplexStream, Arc<Mutex<usize>>) {
        let (corked, peer, writes) = corked(room);
        corked.lock().opening = None;
        (corked, peer, writes)
    }

    #[tokio::test]
    async fn settings_wait_for_the_peers_and_leave_with_their_acknowledgement_and_a_first_answer() {
        let (corked, mut peer, writes) = corked(1024);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async {
            handle.write_all(b"settings").await?;
            handle.read_exact(&mut [0; OPENING]).await?;
            handle.write_all(b"acknowledged").await?;
            let call = tokio::spawn(async { *b"answer" });
            handle.write_all(&call.await?).await?;
            assert_eq!(*writes.lock().unwrap(), 0);
            handle.read_exact(&mut [0; 2]).await?;
            io::Result::Ok(())
        });
        let mut driven = std::pin::pin!(corked.drive(connection.as_mut()));
        for part in [&[b'x'; OPENING - 1][..], &[]] {
            peer.write_all(part).await.unwrap();
            poll_fn(|context| {
                assert!(driven.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(*writes.lock().unwrap(), 0, "the peer has not finished its opening");
        }
        let peer = async {
            peer.write_all(b"x").await.unwrap();
            let mut said = [0; 26];
            peer.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"settingsacknowledgedanswer");
            peer.write_all(b"ok").await.unwrap();
        };
        let (ended, ()) = tokio::join!(driven, peer);
        ended.unwrap();
        assert_eq!(*writes.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn settings_do_not_wait_for_a_slow_answer() {
        let (corked, mut peer, _) = corked(1024);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async {
            handle.write_all(b"settings").await?;
            handle.read_exact(&mut [0; OPENING]).await?;
            std::future::pending::<io::Result<()>>().await
        });
        let peer = async {
            peer.write_all(&[b'x'; OPENING]).await.unwrap();
            peer.read_exact(&mut [0; 8]).await.unwrap();
        };
        tokio::select! {
            _ = corked.drive(connection.as_mut()) => panic!("it ended"),
            () = peer => {}
        }
    }

    #[tokio::test]
    async fn all_that_is_said_in_one_turn_leaves_in_one_write() {
        let (corked, mut peer, writes) = opened(1024);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async {
            for _ in 0..3 {
                handle.write_all(b"frame").await?;
                handle.flush().await?;
            }
            assert_eq!(*writes.lock().unwrap(), 0);
            let mut answer = [0; 2];
            handle.read_exact(&mut answer).await?;
            assert_eq!(*writes.lock().unwrap(), 1);
            io::Result::Ok(answer)
        });
        let peer = async {
            let mut said = [0; 15];
            peer.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"frameframeframe");
            peer.write_all(b"ok").await.unwrap();
        };
        let (ended, ()) = tokio::join!(corked.drive(connection.as_mut()), peer);
        assert_eq!(&ended.unwrap(), b"ok");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_makes_us_hold_no_more_than_the_bound() {
        let (corked, mut peer, _) = opened(1024);
        let mut handle = corked.handle();
        let said = Arc::new(Mutex::new(0));
        let counter = said.clone();
        let mut connection = std::pin::pin!(async move {
            for _ in 0..400 {
                handle.write_all(&[b'x'; 1024]).await?;
                *counter.lock().unwrap() += 1024;
            }
            handle.shutdown().await
        });
        let mut driven = std::pin::pin!(corked.drive(connection.as_mut()));
        poll_fn(|context| {
            assert!(driven.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!((MOST..=MOST + 2048).contains(&said.lock().unwrap()), "{said:?}");
        // Once it reads, everything arrives, and then the end.
        let mut all = Vec::new();
        let (ended, read) = tokio::join!(driven, peer.read_to_end(&mut all));
        ended.unwrap();
        assert_eq!(read.unwrap(), 400 * 1024);
    }

    #[tokio::test]
    async fn nothing_is_said_to_a_peer_that_has_closed() {
        let (corked, peer, writes) = corked(1024);
        drop(peer);
        let mut handle = corked.handle();
        assert_eq!(handle.read(&mut [0; 8]).await.unwrap(), 0);
        handle.write_all(b"farewell").await.unwrap();
        handle.shutdown().await.unwrap();
        assert_eq!(*writes.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_stream_that_fails_ends_the_connection() {
        let (corked, peer, _) = opened(1024);
        drop(peer);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async move {
            handle.write_all(b"frame").await?;
            std::future::pending::<io::Result<()>>().await
        });
        assert!(corked.drive(connection.as_mut()).await.is_err());
    }
}
