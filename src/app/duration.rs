//! Spans of time as Kubernetes people write them, in Go's spelling: `24h`, `90m`, `1h30m`, `1.5h`, `250ms`.

use std::time::Duration;

/// Not a span of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a span of time: write it as 24h, 90m, 1h30m or 45s")]
pub struct DurationError(String);

const UNITS: [(&str, u128); 8] = [
    // Longer names first: `ms` is not `m` and an `s`.
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5
    ("μs", 1_000), // U+03BC
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Reads what Go's `time.ParseDuration` reads, without signs: nothing of ours takes a negative span. Unlike Go it refuses what is too large
/// (292 years) rather than wrap.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(text.chars().take(100).collect());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return Err(refuse());
        }
        let (name, unit) = UNITS
            .into_iter()
            .find(|(name, _)| after.starts_with(name))
            .ok_or_else(refuse)?;
        let number = |digits: &str| {
            if digits.is_empty() {
                Ok(0)
            } else {
                digits.parse::<u128>()
            }
        };
        let whole = number(whole).map_err(|_| refuse())? * unit;
        let part = number(fraction).map_err(|_| refuse())? * unit / 10u128.pow(fraction.len() as u32);
        nanoseconds += whole + part;
        rest = &after[name.len()..];
    }
    match i64::try_from(nanoseconds) {
        Ok(nanoseconds) if !text.is_empty() => Ok(Duration::from_nanos(nanoseconds.unsigned_abs())),
        _ => Err(refuse()),
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes whole seconds as briefly as [`parse`] reads them back: `24h`, `1h30m`, `45s`.
pub fn print(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_gos_spelling() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("24h", 86_400_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5m", 30_000_000_000),
            ("2.s", 2_000_000_000),
            ("250ms", 250_000_000),
            ("3us4µs5μs6ns", 12_006),
            ("30m1h", 5_400_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "24",
            "-1h",
            "+1h",
            "1d",
            "1 h",
            " 1h",
            "1h ",
            "1H",
            ".h",
            "1..5h",
            "1e3s",
            "٣h",
            "9999999999h",
            "99999999999999999999h",
            "2562048h",
            "1.0000000000000000001h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(seconds in 0u64..9_000_000_000) {
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&print(span)), Ok(span));
        }

        #[test]
        fn parts_add_up(parts in proptest::collection::vec((0u64..100_000, 0usize..UNITS.len()), 1..9)) {
            let text: String = parts.iter().map(|(number, unit)| format!("{number}{}", UNITS[*unit].0)).collect();
            let sum: u128 = parts.iter().map(|(number, unit)| u128::from(*number) * UNITS[*unit].1).sum();
            prop_assert_eq!(parse(&text).map(|span| span.as_nanos()), Ok(sum));
        }

        #[test]
        fn never_panics(text in "[0-9.hmsunµ -]{0,40}") {
            let _ = parse(&text);
        }
    }
}
