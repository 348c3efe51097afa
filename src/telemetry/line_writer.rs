//! A writer that never makes its callers wait for the file behind it: lines are gathered in memory and written by a thread of their own.
//!
//! Takes: whole lines. Gives: the same lines, in order, in few large writes. Not here: what a line says.
//!
//! A line that comes after a silence is written at once; while lines keep coming, one write takes all of [`GATHER`]. That keeps the cost of
//! logging at a memory copy per line: waking a thread and a system call for each would cost a busy server more than a tenth of its time.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long lines are gathered while they keep coming.
const GATHER: Duration = Duration::from_millis(20);
/// Most bytes that wait. Whatever comes beyond (the reader of our log is stuck) is counted and left out: certificates matter more.
const MOST: usize = 4 << 20;
/// From so many bytes on they are written without waiting for more.
const PLENTY: usize = 64 << 10;

/// The door for callers. Cheap to share.
#[derive(Debug)]
pub struct LineWriter {
    state: Mutex<State>,
    wake: Condvar,
    lost: prometheus_client::metrics::counter::Counter,
}

/// Keeps the thread; dropping it writes everything that waits and ends the thread.
#[derive(Debug)]
pub struct Flush {
    writer: Arc<LineWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines left out since the last write.
    lost: u64,
    /// The thread sleeps until it is woken.
    idle: bool,
    closing: bool,
}

/// A writer in front of `out`. `lost` counts lines that were left out.
pub fn line_writer(
    out: impl Write + Send + 'static,
    lost: prometheus_client::metrics::counter::Counter,
) -> io::Result<(Arc<LineWriter>, Flush)> {
    let writer = Arc::new(LineWriter {
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
    Ok((writer, flush))
}

impl LineWriter {
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
                0 => Ok(()),
                lost => writeln!(
                    out,
                    "{lost} log lines were left out here: the log could not be written fast enough"
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
}

/// One call is one line.
impl Write for &LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MOST {
            state.lost += 1;
            self.lost.inc();
        } else {
            state.waiting.extend_from_slice(line);
            if state.idle || state.waiting.len() >= PLENTY && state.waiting.len() - line.len() < PLENTY {
                drop(state);
                self.wake.notify_one();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

    #[test]
    fn writes_the_first_line_at_once_and_the_rest_on_exit() {
        let (sender, receiver) = mpsc::sync_channel(100);
        let (writer, flush) = line_writer(Pipe(sender), Counter::default()).unwrap();
        (&*writer).write_all(b"first\n").unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), b"first\n");
        for number in 0..5000 {
            writeln!(&*writer, "{number}").unwrap();
        }
        drop(flush);
        let rest: Vec<u8> = receiver.try_iter().flatten().collect();
        let wanted: String = (0..5000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(rest).unwrap(), wanted);
    }

    #[test]
    fn keeps_memory_bounded_and_says_what_is_missing() {
        let (sender, receiver) = mpsc::sync_channel(0);
        let lost = Counter::default();
        let (writer, flush) = line_writer(Pipe(sender), lost.clone()).unwrap();
        let line = [b'x'; 1 << 20];
        for _ in 0..20 {
            (&*writer).write_all(&line).unwrap();
        }
        // At most one batch is in the stuck write and one waits.
        assert!((12..=16).contains(&lost.get()), "{}", lost.get());
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect::<Vec<u8>>());
        drop(flush);
        drop(writer);
        let all = reader.join().unwrap();
        assert!(all.len() < 9 << 20);
        let text = String::from_utf8(all).unwrap();
        assert!(
            text.contains("log lines were left out here"),
            "{:?}",
            text.trim_matches('x')
        );
    }
}
