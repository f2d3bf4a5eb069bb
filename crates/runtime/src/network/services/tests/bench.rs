//! Checks that one change costs the same with any number of Services, in bytes that nft reads.
//! `cargo xtask bench services` runs it in a release build to measure the times.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::*;

/// Wall time, and processor time: ours and that of nft, in user and kernel mode.
#[derive(Clone, Copy)]
struct Time {
    wall: Duration,
    processor: Duration,
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Time) {
    let (start, before) = (Instant::now(), processor());
    let done = work();
    let wall = start.elapsed();
    let processor = processor() - before;
    (done, Time { wall, processor })
}

/// Returns the processor time of this process and its children so far.
fn processor() -> Duration {
    let of = |who| {
        let usage = getrusage(who).unwrap();
        let time =
            |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
        time(usage.user_time()) + time(usage.system_time())
    };
    of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)
}

/// Returns Services with this number of endpoints, ten each, at 10.96.x.y:80.
fn services_of(endpoints: u32) -> ServiceChanges {
    let service = |n: u32| {
        let [_, _, high, low] = n.to_be_bytes();
        let endpoints: Vec<SocketAddr> = (0..10)
            .map(|k| ([10, 10 + high, low, k as u8], POD_PORT).into())
            .collect();
        (tcp([10, 96, high, low]), plain_route(&endpoints))
    };
    lead((0..endpoints / 10).map(service))
}

/// Returns the cost of writing all rules, and the lowest cost of several changes that add one
/// endpoint to one Service.
fn one_change(endpoints: u32) -> ((ServiceCost, Time), (ServiceCost, Time)) {
    let machine = Machine::new(0);
    let mut services = machine.services();
    let all = services_of(endpoints);
    let (cost, time) = timed(|| machine.run(|| services.update(&all)));
    let first = (cost.unwrap(), time);
    let never = Time {
        wall: Duration::MAX,
        processor: Duration::MAX,
    };
    let mut best = (ServiceCost::default(), never);
    for n in 0..10u8 {
        let mut route = services.led[&tcp([10, 96, 0, 5])].route.clone();
        route.endpoints = route
            .endpoints
            .iter()
            .copied()
            .chain([([10, 9, 9, n], POD_PORT).into()])
            .collect();
        let change = lead([(tcp([10, 96, 0, 5]), route)]);
        let (cost, time) = timed(|| machine.run(|| services.update(&change)));
        // The bytes of the last change: the first one need not remove the chain for ten endpoints,
        // which the others still use.
        let least = Time {
            wall: best.1.wall.min(time.wall),
            processor: best.1.processor.min(time.processor),
        };
        best = (cost.unwrap(), least);
    }
    (first, best)
}

#[test]
#[allow(clippy::print_stdout)] // the figures, for who asks with --nocapture
fn one_change_is_as_small_among_ten_thousand_endpoints_as_among_a_hundred() {
    let mut bytes = BTreeSet::new();
    for endpoints in [100, 1_000, 10_000] {
        let (all, (cost, change)) = one_change(endpoints);
        assert!(!cost.anew);
        for (what, cost, time) in [("all", all.0, all.1), ("one more", cost, change)] {
            let (wall, processor, bytes) = (time.wall, time.processor, cost.bytes);
            println!(
                "{endpoints} endpoints, {what}: {wall:?}, of the processor {processor:?}, {bytes} bytes"
            );
        }
        bytes.insert(cost.bytes);
    }
    assert!(bytes.last().unwrap() - bytes.first().unwrap() < 16, "{bytes:?}");
}
