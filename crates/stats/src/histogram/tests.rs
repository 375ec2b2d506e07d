use super::*;

#[test]
fn bins_hold_two_digits() {
    let check = |value: u64, lower: f64, width: f64| {
        let snapshot = Snapshot::of(&[value]);
        let bins: Vec<Bin> = snapshot.bins().collect();
        assert_eq!(bins, [Bin { lower, width, count: 1 }], "{value}");
    };
    check(0, 0.0, 0.0);
    check(1, 1.0, 0.1);
    check(9, 9.0, 0.1);
    check(10, 10.0, 1.0);
    check(99, 99.0, 1.0);
    check(100, 100.0, 10.0);
    check(109, 100.0, 10.0);
    check(110, 110.0, 10.0);
    check(999, 990.0, 10.0);
    check(1_000, 1_000.0, 100.0);
    check(2_550, 2_500.0, 100.0);
    check(9_999, 9_900.0, 100.0);
    check(10_000, 10_000.0, 1_000.0);
    check(u64::MAX, 18e18, 1e18);
    for value in (0..64).map(|shift| 1u64 << shift) {
        let bin = Snapshot::of(&[value]).bins().next().unwrap();
        let value = value as f64;
        assert!(bin.lower <= value && value < bin.lower + bin.width.max(0.1), "{value} {bin:?}");
    }
}

/// Values and results as Envoy 1.40 was seen to show them.
#[test]
fn statistics() {
    let sizes = [0, 0, 0, 0, 1, 5, 10, 25, 100, 105, 250, 255, 259, 1000, 1050, 2500, 2501];
    let snapshot = Snapshot::of(&sizes);
    assert_eq!(snapshot.count(), 17);
    assert_eq!(snapshot.sum(), 8209.570513353858);
    let quantiles = snapshot.quantiles().unwrap();
    let expected = [
        0.0,
        1.05,
        103.33333333333333,
        257.5,
        2533.3333333333335,
        2566.6666666666665,
        2566.6666666666665,
        2566.6666666666665,
        2566.6666666666665,
        2566.6666666666665,
    ];
    assert_eq!(quantiles, expected);
    let below: Vec<u64> = DEFAULT_BUCKETS.iter().map(|&bound| snapshot.count_up_to(bound)).collect();
    assert_eq!(below, [4, 5, 6, 7, 8, 8, 10, 13, 13, 15, 17, 17, 17, 17, 17, 17, 17, 17, 17]);
    assert_eq!(snapshot.count_up_to(255.0), 13, "the bin of 250 begins below 255");

    assert_eq!(Snapshot::default().quantiles(), None);
    assert_eq!(Snapshot::of(&[38]).sum(), 38.493506493506494);
    assert_eq!(Snapshot::of(&[38]).quantiles().unwrap(), [38.5; 10]);
}

#[test]
fn snapshots_add_and_subtract() {
    let first = Snapshot::of(&[1, 20, 300]);
    let second = Snapshot::of(&[0, 20, 4_000]);
    let mut both = first.clone();
    both.add(&second);
    assert_eq!(both, Snapshot::of(&[0, 1, 20, 20, 300, 4_000]));
    assert_eq!(both.since(&first), second);
    assert_eq!(both.since(&Snapshot::default()), both);
    assert!(first.since(&first).is_empty());
}
