//! One write for everything that a connection has to say in one turn. HTTP/2 flushes after each frame with data; below it, each flush is a
//! TLS record, a system call and a packet. Here frames are gathered while the connection is being polled and leave when it has nothing
//! more to do, which under load is one write for the answers to many calls.
//!
//! Takes: a stream. Gives: the same stream for HTTP/2, and a [`Corked::drive`] that polls the connection and then lets the bytes out, for as
//! long as the [`Patience`] with the peer lasts.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::patience::{OPENING, Patience, Progress};

/// From so many bytes on, HTTP/2 waits until they have left: a peer that does not read makes us hold no more. Two full TLS records.
const MOST: usize = 32 * 1024;
/// Room for an answer, so that it is not made bit by bit.
const USUAL: usize = 4 * 1024;
/// More than a stream below us holds before it says that it is full: TLS gathers 64 kB and their framing.
const HELD_BELOW: u64 = 68 * 1024;

/// Of the connection, or of the stream below it, or [`Impatience`](super::patience::Impatience).
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A handle on a stream whose writes wait for [`Corked::drive`].
pub struct Corked<S>(Arc<Mutex<Gathered<S>>>);

struct Gathered<S> {
    stream: S,
    waiting: BytesMut,
    /// Bytes that the peer has sent.
    heard: u64,
    /// Bytes that the stream has taken.
    taken: u64,
    /// How many of them its own flush has pushed out.
    flushed: u64,
    /// Our settings may leave.
    open: bool,
    /// The peer said that it sends no more.
    ended: bool,
}

impl<S> Corked<S> {
    /// Corks a stream.
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Gathered {
            stream,
            waiting: BytesMut::new(),
            heard: 0,
            taken: 0,
            flushed: 0,
            open: false,
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
    /// Runs `connection`, which writes to the other handle, to its end or that of our patience; lets out what it wrote whenever it pauses.
    pub async fn drive<T, E: Into<Failure>>(
        &self,
        mut connection: Pin<&mut impl Future<Output = Result<T, E>>>,
        patience: &mut Patience,
    ) -> Result<T, Failure> {
        poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            if polled.is_pending() {
                let mut gathered = self.lock();
                if gathered.waits(context) {
                    return patience.poll(gathered.progress(), context).map(|why| Err(why.into()));
                }
                // When the peer does not take them now, this task is woken when it does.
                if let Poll::Ready(Err(error)) = gathered.poll_out(context) {
                    return Poll::Ready(Err(error.into()));
                }
                if let Poll::Ready(why) = patience.poll(gathered.progress(), context) {
                    return Poll::Ready(Err(why.into()));
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
        if self.open {
            return false;
        }
        if self.heard >= OPENING {
            self.open = true;
            context.waker().wake_by_ref();
        }
        true
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.waiting.advance(written);
                    self.taken += written as u64;
                }
            }
        }
        if self.flushed < self.taken {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.flushed = self.taken;
            // An idle connection holds no buffer.
            self.waiting = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn progress(&self) -> Progress {
        Progress {
            heard: self.heard,
            said: self.taken + self.waiting.len() as u64,
            // A busy peer may never let the stream run dry, but what it took so long ago has left.
            left: self.flushed.max(self.taken.saturating_sub(HELD_BELOW)),
        }
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() >= MOST {
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
        gathered.heard += read as u64;
        gathered.ended |= read == 0 && buffer.remaining() > 0;
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::super::patience::Impatience;
    use super::*;

    /// Writes to a [`duplex`] pipe and counts how often.
    struct Counted(DuplexStream, Arc<Mutex<usize>>);

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

    fn corked(room: usize) -> (Corked<Counted>, DuplexStream, Arc<Mutex<usize>>) {
        let (ours, theirs) = duplex(room);
        let writes = Arc::new(Mutex::new(0));
        (Corked::new(Counted(ours, writes.clone())), theirs, writes)
    }

    fn patience() -> Patience {
        let span = Duration::from_secs(5);
        Patience::new(Instant::now() + span, span, Arc::default())
    }

    fn opened(room: usize) -> (Corked<Counted>, tokio::io::DuplexStream, Arc<Mutex<usize>>) {
        let (corked, peer, writes) = corked(room);
        corked.lock().open = true;
        (corked, peer, writes)
    }

    #[tokio::test]
    async fn settings_wait_for_the_peers_and_leave_with_their_acknowledgement_and_a_first_answer() {
        let (corked, mut peer, writes) = corked(1024);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async {
            handle.write_all(b"settings").await?;
            handle.read_exact(&mut [0; OPENING as usize]).await?;
            handle.write_all(b"acknowledged").await?;
            let call = tokio::spawn(async { *b"answer" });
            handle.write_all(&call.await?).await?;
            assert_eq!(*writes.lock().unwrap(), 0);
            handle.read_exact(&mut [0; 2]).await?;
            io::Result::Ok(())
        });
        let mut patience = patience();
        let mut driven = std::pin::pin!(corked.drive(connection.as_mut(), &mut patience));
        for part in [&[b'x'; OPENING as usize - 1][..], &[]] {
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
            handle.read_exact(&mut [0; OPENING as usize]).await?;
            std::future::pending::<io::Result<()>>().await
        });
        let peer = async {
            peer.write_all(&[b'x'; OPENING as usize]).await.unwrap();
            peer.read_exact(&mut [0; 8]).await.unwrap();
        };
        let mut patience = patience();
        tokio::select! {
            _ = corked.drive(connection.as_mut(), &mut patience) => panic!("it ended"),
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
        let mut patience = patience();
        let (ended, ()) = tokio::join!(corked.drive(connection.as_mut(), &mut patience), peer);
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
        let mut patience = patience();
        let mut driven = std::pin::pin!(corked.drive(connection.as_mut(), &mut patience));
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

    /// A peer that spoke and reads so many bytes a second; how our side of the connection ends, which wants to send 400 kB.
    async fn slow(
        stream: impl AsyncWrite + AsyncRead + Unpin,
        mut peer: DuplexStream,
        pace: usize,
    ) -> Result<(), Failure> {
        let corked = Corked::new(stream);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async move {
            handle.read_exact(&mut [0; OPENING as usize]).await?;
            for _ in 0..400 {
                handle.write_all(&[b'x'; 1000]).await?;
            }
            handle.shutdown().await
        });
        peer.write_all(&[b'p'; OPENING as usize]).await.unwrap();
        let reader = async {
            let mut bytes = vec![0; pace];
            while pace > 0 && peer.read_exact(&mut bytes).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending().await
        };
        let mut patience = patience();
        tokio::select! {
            ended = corked.drive(connection.as_mut(), &mut patience) => ended,
            () = reader => Ok(()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_and_a_slow_one_is_not() {
        for (pace, cut) in [(0, true), (1, true), (50_000, false)] {
            let (ours, theirs) = duplex(1024);
            let ended = slow(ours, theirs, pace).await;
            // TLS gathers what the socket does not take.
            let (ours, theirs) = duplex(1024);
            let gathered = slow(BufWriter::with_capacity(64 * 1024, ours), theirs, pace).await;
            for ended in [ended, gathered] {
                let why = ended.err().map(|error| *error.downcast::<Impatience>().unwrap());
                assert_eq!(why, cut.then_some(Impatience::Unread), "{pace}");
            }
        }
    }

    /// One that reads steadily and never quite everything makes us hold what is left, and nothing of what it has read.
    #[tokio::test]
    async fn what_has_left_is_not_held() {
        let (corked, mut peer, _) = opened(1000);
        let mut handle = corked.handle();
        let mut connection = std::pin::pin!(async move {
            for _ in 0..2_000 {
                handle.write_all(&[b'x'; 1000]).await?;
                tokio::task::yield_now().await;
            }
            handle.shutdown().await
        });
        let mut patience = patience();
        let mut most = 0;
        let reading = async {
            let mut read = 0;
            let mut buffer = [0; 999];
            loop {
                match peer.read(&mut buffer).await.unwrap() {
                    0 => return read,
                    some => read += some,
                }
                let gathered = corked.lock();
                most = most.max(gathered.waiting.capacity());
            }
        };
        let (ended, read) = tokio::join!(corked.drive(connection.as_mut(), &mut patience), reading);
        ended.unwrap();
        assert_eq!(read, 2_000_000);
        assert!(most <= 3 * MOST, "{most}");
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
        let mut patience = patience();
        assert!(corked.drive(connection.as_mut(), &mut patience).await.is_err());
    }
}
