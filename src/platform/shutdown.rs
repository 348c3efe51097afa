//! Who asks the process to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to stop that many can wait for. Cloned freely; once given it stays given.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The hand that asks. Dropping it asks as well.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// A pair of trigger and waiter.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Asks everyone to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns when asked to stop.
    pub async fn asked(&mut self) {
        // An error means that the trigger is gone, which asks as well.
        let _ = self.0.wait_for(|asked| *asked).await;
    }

    /// Whether it was asked already.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}

/// Returns the name of the signal when the process gets SIGTERM (Kubernetes) or SIGINT (a terminal).
pub async fn signal_to_stop() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// From now on SIGHUP does not end the process; `heard` hears of every one until the future is dropped.
pub fn on_hangup(heard: impl Fn()) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            heard();
        }
    })
}
