//! That one change costs the same whatever there is already, told in what nft reads; `docs/benchmarks.md` has the times.

use std::time::{Duration, Instant};

use super::*;

/// So many Services with ten endpoints each, at 10.96.x.y:80.
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

/// What one more endpoint of one Service costs among so many, at best of several: bytes, time.
fn one_change(endpoints: u32) -> (ServiceCost, Duration, Duration) {
    let machine = Machine::new(0);
    let mut services = machine.services();
    let start = Instant::now();
    machine.run(|| services.update(&services_of(endpoints))).unwrap();
    let first = start.elapsed();
    let mut best = (ServiceCost::default(), Duration::MAX);
    for n in 0..10u8 {
        let mut route = services.led[&tcp([10, 96, 0, 5])].route.clone();
        route.endpoints = route
            .endpoints
            .iter()
            .copied()
            .chain([([10, 9, 9, n], POD_PORT).into()])
            .collect();
        let start = Instant::now();
        let cost = machine
            .run(|| services.update(&lead([(tcp([10, 96, 0, 5]), route)])))
            .unwrap();
        // The bytes of the last one: the first need not remove the chain for ten endpoints, which the others still use.
        best = (cost, best.1.min(start.elapsed()));
    }
    (best.0, first, best.1)
}

#[test]
#[allow(clippy::print_stdout)] // the figures, for who asks with --nocapture
fn one_change_is_as_small_among_ten_thousand_endpoints_as_among_a_hundred() {
    let mut bytes = BTreeSet::new();
    for endpoints in [100, 1_000, 10_000] {
        let (cost, first, change) = one_change(endpoints);
        assert!(!cost.anew);
        println!(
            "{endpoints} endpoints: all {first:?}, one more {change:?} with {} bytes",
            cost.bytes
        );
        bytes.insert(cost.bytes);
    }
    assert!(bytes.last().unwrap() - bytes.first().unwrap() < 16, "{bytes:?}");
}
