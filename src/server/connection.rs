//! One HTTP/2 connection, from its first byte to its end.
//!
//! Takes: a stream, who answers, and the patience with the peer. Gives: why it ended. Not here: TLS, and who is let in (`listener`).

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Answer;
use super::cork::{Corked, Failure};
use super::patience::Patience;
use crate::platform::shutdown::Shutdown;

/// Bounds on what one connection may hold.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Calls at once.
    pub streams: u32,
    /// All headers of one call, in bytes.
    pub header_list_bytes: u32,
}

/// Answers calls until the peer leaves or the patience with it ends; after a request to stop, until its calls are done.
pub async fn serve<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    limits: Http2Limits,
    mut patience: Patience,
    mut shutdown: Shutdown,
) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Answer>, Infallible>> + Send + 'static,
{
    let corked = Corked::new(stream);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_list_bytes)
        // Requests are a few kilobytes: large windows would only let a caller make us hold more.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        // As istiod does: a ping after 30 s of silence finds dead peers.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        // Nobody reads a date; gRPC servers send none.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(corked.handle()), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = corked.drive(connection.as_mut(), &mut patience) => return ended,
        () = shutdown.asked() => {}
    }
    connection.as_mut().graceful_shutdown();
    corked.drive(connection.as_mut(), &mut patience).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use h2::client::SendRequest;
    use hyper::body::Bytes;
    use hyper::service::service_fn;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};
    use tonic::body::Body;

    use super::super::patience::Impatience;
    use super::super::visitors::{Pool, Quota, Visitors};
    use super::*;
    use crate::platform::SystemClock;
    use crate::platform::shutdown::{ShutdownTrigger, shutdown};
    use crate::telemetry::{Metrics, Readiness};

    const SPAN: Duration = Duration::from_secs(5);

    /// A connection whose every call is answered with 100 bytes, and why we ended it.
    fn start() -> (DuplexStream, JoinHandle<Option<Impatience>>, ShutdownTrigger) {
        let (ours, theirs) = duplex(64 * 1024);
        let quota = Quota {
            total: 9,
            per_address: 9,
        };
        let metrics = Arc::new(Metrics::new(Arc::new(SystemClock), &Readiness::default()));
        let visitors = Arc::new(Visitors::new(quota, quota, metrics));
        let visitor = visitors.enter([10, 0, 0, 1].into()).unwrap();
        let patience = Patience::new(Instant::now() + SPAN, SPAN, visitor.unread.clone());
        let service = service_fn(move |_| {
            let place = Arc::new(visitor.enter(Pool::Certificates).unwrap());
            let body = http_body_util::Full::new(Bytes::from_static(&[b'x'; 100]));
            std::future::ready(Ok(Response::new(Answer::new(Body::new(body), place))))
        });
        let limits = Http2Limits {
            streams: 9,
            header_list_bytes: 8192,
        };
        let (trigger, asked) = shutdown();
        let ended = tokio::spawn(async move {
            let ended = serve(ours, service, limits, patience, asked).await;
            ended.err()?.downcast_ref().copied()
        });
        (theirs, ended, trigger)
    }

    /// A peer with room for so many bytes of each answer.
    async fn client(stream: DuplexStream, window: u32) -> SendRequest<Bytes> {
        let mut builder = h2::client::Builder::new();
        let (client, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Asks; the answer is still to be read.
    async fn ask(client: &mut SendRequest<Bytes>) -> h2::RecvStream {
        let request = Request::get("http://ca/").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        answer.await.unwrap().into_body()
    }

    /// Reads an answer, and thinks about each piece before it makes room for the next.
    async fn read(mut body: h2::RecvStream, thinks: Duration) {
        let mut read = 0;
        while let Some(bytes) = body.data().await {
            let count = bytes.unwrap().len();
            sleep(thinks).await;
            body.flow_control().release_capacity(count).unwrap();
            read += count;
        }
        assert_eq!(read, 100);
    }

    /// Istio's clients idle for up to 30 minutes; the h2 client answers pings.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_spoke_may_idle() {
        let (stream, ended, _trigger) = start();
        let mut client = client(stream, 65_535).await;
        for _ in 0..3 {
            sleep(Duration::from_secs(31 * 60)).await;
            read(ask(&mut client).await, Duration::ZERO).await;
        }
        assert!(!ended.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_begin_to_speak_is_cut() {
        let (mut stream, ended, _trigger) = start();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r").await.unwrap();
        assert_eq!(ended.await.unwrap(), Some(Impatience::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_leaves_an_answer_unread_is_cut() {
        // No room at all: the answer waits before HTTP/2. Room for a byte: it waits inside.
        for window in [0, 1] {
            let (stream, ended, _trigger) = start();
            let mut client = client(stream, window).await;
            let _unread = ask(&mut client).await;
            assert_eq!(ended.await.unwrap(), Some(Impatience::Unread), "{window}");
        }
    }

    /// At every moment an answer waits, and none for long.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_not_cut() {
        let (stream, ended, _trigger) = start();
        let client = client(stream, 40).await;
        let reader = |offset| {
            let mut client = client.clone();
            async move {
                sleep(Duration::from_millis(offset)).await;
                for _ in 0..30 {
                    read(ask(&mut client).await, Duration::from_secs(1)).await;
                }
            }
        };
        tokio::join!(reader(0), reader(500), reader(1000), reader(1500));
        assert!(!ended.is_finished());
    }
}
