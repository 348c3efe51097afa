//! The arithmetic of the bench: medians, shares, and the numbers that the kernel and the settings file print. Pure, tested by `tests/it`.

use std::time::Duration;

/// A clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// The middle one, or the mean of the two in the middle. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle - 1)? + sorted.get(middle)?) / 2.0),
    }
}

/// The value that `share` (0 to 1) of all values do not exceed.
pub fn quantile(values: &mut [u32], share: f64) -> Option<u32> {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The CPU time in a `/proc/PID/task/TID/schedstat`: its first field, nanoseconds.
pub fn schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// User and system time in a `/proc/PID/stat`, of all threads that are or were. The name in parentheses may hold spaces and parentheses.
pub fn ticks(text: &str) -> Option<Duration> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

/// A process's CPU time: exact from its living threads, unless threads have ended, whose share only the coarse ticks still hold.
pub fn cpu_time(living_threads: Duration, ticks: Duration) -> Duration {
    if ticks > living_threads + TICK * 2 {
        ticks
    } else {
        living_threads
    }
}

/// Resident bytes in a `/proc/PID/status`.
pub fn resident(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The `address` of a section of the demo's settings.
pub fn address(settings: &str, section: &str) -> Option<std::net::SocketAddr> {
    settings
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(section))
        .skip(1)
        .take_while(|line| line.starts_with(' ') || line.is_empty())
        .find_map(|line| line.trim().strip_prefix("address:"))
        .and_then(|value| value.trim().trim_matches(['"', '\'']).parse().ok())
}
