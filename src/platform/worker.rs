//! Threads of their own, each with a runtime, for work that must not wait for other work.

use tokio::sync::oneshot;

/// Runs work on a thread and a runtime of its own; the future ends when the work does.
pub fn start(
    name: String,
    work: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Slow signatures of a worker's calls; how many run at once is the issuer's business.
        .max_blocking_threads(super::process::parallelism())
        .build()?;
    let (alive, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name(name).spawn(move || {
        let _alive = alive;
        runtime.block_on(work);
    })?;
    Ok(async move {
        let _ = ended.await;
    })
}
