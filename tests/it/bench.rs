//! The pure parts of the bench, which has no test harness of its own.

use std::time::Duration;

use countersign::proto::istio::IstioCertificateRequest;

use self::call::{Call, decode};
use self::figures::{address, cpu_time, median, quantile, resident, schedstat, ticks};

#[path = "../bench/call.rs"]
mod call;
#[path = "../bench/figures.rs"]
mod figures;

const TICK: Duration = Duration::from_millis(10);

#[test]
fn the_median_is_the_middle_whatever_the_order() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
}

#[test]
fn quantiles_are_values_that_occurred() {
    let mut values: Vec<u32> = (1..=100).rev().collect();
    assert_eq!(quantile(&mut values, 0.5), Some(50));
    assert_eq!(quantile(&mut values, 0.99), Some(99));
    assert_eq!(quantile(&mut values, 1.0), Some(100));
    assert_eq!(quantile(&mut [7], 0.0), Some(7));
    assert_eq!(quantile(&mut [], 0.5), None);
}

#[test]
fn a_threads_time_is_the_first_field_in_nanoseconds() {
    assert_eq!(schedstat("1500 2027564 1\n"), Some(Duration::from_nanos(1500)));
    assert_eq!(schedstat(""), None);
    assert_eq!(schedstat("x 1 2"), None);
}

#[test]
fn a_processs_time_is_found_behind_any_name() {
    let stat = "4242 (a ) 1 2) S 1 4242 4242 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 3 0 100 1 1";
    assert_eq!(ticks(stat), Some(Duration::from_millis(1750)));
    assert_eq!(ticks("4242 (a"), None);
}

#[test]
fn ended_threads_are_not_lost() {
    let second = Duration::from_secs(1);
    assert_eq!(cpu_time(second, second + TICK), second);
    assert_eq!(cpu_time(second, second * 2), second * 2);
}

#[test]
fn resident_memory_is_read_in_bytes() {
    assert_eq!(
        resident("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n"),
        Some(1234 * 1024)
    );
    assert_eq!(resident("VmRSS:\t1234 MB\n"), None);
}

#[test]
fn an_address_belongs_to_its_section() {
    let settings = "listen:\n  tls: {}\n  address: \"127.0.0.1:15012\"\nmonitoring:\n  address: 127.0.0.1:15014\nlog:\n  level: info\n";
    assert_eq!(address(settings, "listen"), "127.0.0.1:15012".parse().ok());
    assert_eq!(address(settings, "monitoring"), "127.0.0.1:15014".parse().ok());
    assert_eq!(address(settings, "log"), None);
}

#[test]
fn a_call_carries_its_csr_and_token() {
    let call = Call::new("a.b.c", "-----BEGIN".to_owned()).unwrap();
    assert_eq!(call.authorization, "Bearer a.b.c");
    let request: IstioCertificateRequest = decode(&call.message).unwrap();
    assert_eq!(request.csr, "-----BEGIN");
    assert_eq!(request.validity_duration, 0);
    assert_eq!(request.metadata, None);
}

#[test]
fn only_one_whole_uncompressed_message_is_decoded() {
    let good = Call::new("t", "csr".to_owned()).unwrap().message.to_vec();
    let decodes = |body: &[u8]| decode::<IstioCertificateRequest>(body).is_some();
    assert!(decodes(&good));
    assert!(!decodes(&good[..good.len() - 1]));
    assert!(!decodes(&[&good[..], &[0]].concat()));
    assert!(!decodes(&[&[1], &good[1..]].concat()));
    assert!(!decodes(&[]));
}

#[test]
fn a_token_that_is_no_header_value_is_refused() {
    assert!(Call::new("a\nb", String::new()).is_err());
}
