//! A writer that never makes its callers wait for the file behind it: lines are gathered in memory and written by a thread of their own.
//!
//! Takes: whole lines. Gives: the same lines, in order, in few large writes. Not here: what a line says.
//!
//! When the file is slower than the lines, strangers decide how many lines there are: every refusal is one. So the last quarter of the room
//! is kept for what must not be lost ([`Worth`]).
//!
//! A line that comes after a silence is written at once; while lines keep coming, one write takes all of [`GATHER`]. That keeps the cost of
//! logging at a memory copy per line: waking a thread and a system call for each would cost a busy server more than a tenth of its time.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::log::REFUSED;

/// How long lines are gathered while they keep coming.
const GATHER: Duration = Duration::from_millis(20);
/// Most bytes that wait. Whatever comes beyond (the reader of our log is stuck) is counted and left out: certificates matter more.
const MOST: usize = 4 << 20;
/// From so many bytes on, [`Worth::Little`] is left out.
const MOST_OF_LITTLE_WORTH: usize = MOST / 4 * 3;
/// From so many bytes on they are written without waiting for more.
const PLENTY: usize = 64 << 10;

/// What is lost with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// A refusal, which the metrics count too, or a detail for whoever is searching: strangers can cause any number of them.
    Little,
    /// Everything else: what was issued, what was done to the CA, warnings.
    Much,
}

impl Worth {
    /// All, with the words for the metric, in the order of the variants.
    pub const ALL: [&str; 2] = ["little", "much"];

    fn of(metadata: &Metadata<'_>) -> Self {
        // The less important a level, the greater it is.
        match *metadata.level() > Level::INFO || metadata.target() == REFUSED {
            true => Self::Little,
            false => Self::Much,
        }
    }
}

/// The door for callers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LineWriter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
    /// By [`Worth`].
    lost: [Counter; 2],
}

/// Keeps the thread; dropping it writes everything that waits and ends the thread.
#[derive(Debug)]
pub struct Flush {
    writer: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines left out since the last write, by [`Worth`].
    lost: [u64; 2],
    /// The thread sleeps until it is woken.
    idle: bool,
    closing: bool,
}

/// A writer in front of `out`. `lost` counts lines that were left out, by [`Worth`].
pub fn line_writer(out: impl Write + Send + 'static, lost: [Counter; 2]) -> io::Result<(LineWriter, Flush)> {
    let writer = Arc::new(Inner {
        state: Mutex::default(),
        wake: Condvar::new(),
        lost,
    });
    let thread = std::thread::Builder::new().name("log".into()).spawn({
        let writer = Arc::clone(&writer);
        move || writer.pump(out)
    })?;
    let flush = Flush {
        writer: Arc::clone(&writer),
        thread: Some(thread),
    };
    Ok((LineWriter(writer), flush))
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn pump(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            state.idle = true;
            while state.waiting.is_empty() && !state.closing {
                state = self.wake.wait(state).unwrap_or_else(|broken| broken.into_inner());
            }
            state.idle = false;
            std::mem::swap(&mut state.waiting, &mut batch);
            let lost = std::mem::take(&mut state.lost);
            let last = state.closing;
            drop(state);
            // Nobody is left to tell when the log itself cannot be written.
            let _ = out.write_all(&batch).and_then(|()| match lost {
                [0, 0] => Ok(()),
                [little, much] => writeln!(
                    out,
                    "{little} refusals and details and {much} other log lines were left out here: the log could not be written fast enough"
                ),
            });
            let _ = out.flush();
            batch.clear();
            batch.shrink_to(PLENTY);
            if last {
                return;
            }
            let state = self.lock();
            let gathering = |state: &mut State| !state.closing && state.waiting.len() < PLENTY;
            drop(self.wake.wait_timeout_while(state, GATHER, gathering));
        }
    }

    fn line(&self, worth: Worth, line: &[u8]) {
        let most = match worth {
            Worth::Little => MOST_OF_LITTLE_WORTH,
            Worth::Much => MOST,
        };
        let mut state = self.lock();
        if state.waiting.len() + line.len() > most {
            state.lost[worth as usize] += 1;
            self.lost[worth as usize].inc();
            return;
        }
        state.waiting.extend_from_slice(line);
        if state.idle || state.waiting.len() >= PLENTY && state.waiting.len() - line.len() < PLENTY {
            drop(state);
            self.wake.notify_one();
        }
    }
}

/// A [`LineWriter`] for lines of one [`Worth`]: one call is one line.
#[derive(Debug)]
pub struct Lines<'a>(&'a Inner, Worth);

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(self.1, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(&self.0, Worth::Much)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Lines<'a> {
        Lines(&self.0, Worth::of(metadata))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.writer.lock().closing = true;
        self.writer.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // An error is a panic of the thread, which has been reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use std::sync::mpsc;

    /// Hands on what is written, one message a write, and writes only while there is room.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Held by nobody: every write waits until the receiver is read.
    fn stuck() -> (LineWriter, Flush, mpsc::Receiver<Vec<u8>>, [Counter; 2]) {
        let (sender, receiver) = mpsc::sync_channel(0);
        let lost: [Counter; 2] = Default::default();
        let (writer, flush) = line_writer(Pipe(sender), lost.clone()).unwrap();
        // From here on the thread sits in its first write.
        writer.0.line(Worth::Much, b"first\n");
        while !writer.0.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        (writer, flush, receiver, lost)
    }

    /// Everything that is written from now on.
    fn rest(writer: LineWriter, flush: Flush, receiver: mpsc::Receiver<Vec<u8>>) -> String {
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect());
        drop(flush);
        drop(writer);
        String::from_utf8(reader.join().unwrap()).unwrap()
    }

    #[test]
    fn writes_the_first_line_at_once_and_the_rest_on_exit() {
        let (sender, receiver) = mpsc::sync_channel(100);
        let (writer, flush) = line_writer(Pipe(sender), Default::default()).unwrap();
        writer.0.line(Worth::Much, b"first\n");
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), b"first\n");
        let wanted: Vec<String> = (0..5000).map(|number| format!("{number}\n")).collect();
        for line in &wanted {
            writer.0.line(Worth::Much, line.as_bytes());
        }
        drop(flush);
        let written: Vec<u8> = receiver.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), wanted.concat());
    }

    #[test]
    fn keeps_memory_bounded_and_says_what_is_missing() {
        let (writer, flush, receiver, lost) = stuck();
        for _ in 0..20 {
            writer.0.line(Worth::Much, &[b'x'; 1 << 20]);
        }
        assert_eq!(lost.each_ref().map(Counter::get), [0, 16]);
        let text = rest(writer, flush, receiver);
        assert_eq!(text.matches('x').count(), MOST);
        assert!(
            text.ends_with(
                "0 refusals and details and 16 other log lines were left out here: the log could not be written fast enough\n"
            ),
            "{:?}",
            text.trim_matches('x')
        );
    }

    /// Refusals as strangers cause them, then what must not be lost.
    #[test]
    fn a_flood_of_refusals_leaves_room_for_what_counts() {
        let (writer, flush, receiver, lost) = stuck();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            let detail = "x".repeat(100_000);
            for _ in 0..50 {
                tracing::info!(target: REFUSED, detail, "refused");
                tracing::debug!(detail, "the TLS handshake failed");
            }
            for number in 0..5 {
                tracing::info!(target: "countersign::issued", number, "issued");
                tracing::warn!(number, "a certificate of the CA ends soon");
            }
        });
        assert_eq!(lost.each_ref().map(Counter::get), [69, 0]);
        let text = rest(writer, flush, receiver);
        for kept in [": issued number=", ": a certificate of the CA ends soon number="] {
            assert_eq!(text.matches(kept).count(), 5, "{kept}");
        }
        assert!(text.contains("69 refusals and details and 0 other log lines were left out here"));
    }
}
