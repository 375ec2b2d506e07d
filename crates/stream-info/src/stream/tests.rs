use super::StreamInfo;
use crate::{
    Address, ConnectionInfo, HostInfo, LifeSpan, Locality, Mutability, PlainString, ResponseFlags, Sharing, Struct,
    TimePoint, UnknownFlag,
};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

fn address(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

#[test]
fn a_stream_keeps_nothing_but_the_connection() {
    let start = Instant::now();
    let mut info = StreamInfo::new(start, UNIX_EPOCH);
    info.connection = Some(Arc::new(ConnectionInfo::new(7, start, address("[::1]:1"), address("[::1]:2"))));
    let object = Arc::new(PlainString("v".into()));
    info.filter_state.set("c", object.clone(), Mutability::Mutable, LifeSpan::Connection, Sharing::None).unwrap();
    info.filter_state.set("r", object, Mutability::Mutable, LifeSpan::Request, Sharing::None).unwrap();
    info.fail(ResponseFlags::NO_ROUTE_FOUND, crate::details::ROUTE_NOT_FOUND);
    info.fail(ResponseFlags::RATE_LIMITED, crate::details::OVERLOAD);
    assert_eq!((info.flags.to_string().as_str(), &*info.details), ("NR,RL", "route_not_found"));
    info.set_dynamic_metadata("n", Struct::from_iter([("k", "v")]));
    info.custom_flags.push("x".into());
    info.mark(TimePoint::DownstreamRxEnd, start + Duration::from_nanos(5));
    info.mark_first(TimePoint::DownstreamRxEnd, start);
    assert_eq!(info.timing.get(TimePoint::DownstreamRxEnd), Some(5));
    for port in [1, 2] {
        info.upstream.set_host(Arc::new(HostInfo {
            address: address(&format!("10.0.0.1:{port}")),
            hostname: "".into(),
            metadata: None,
            locality: Locality::default(),
        }));
        info.upstream.mark_attempted();
    }
    assert_eq!(info.remote().map(ToString::to_string), Some("[::1]:2".to_owned()));
    info.reset(start, UNIX_EPOCH);
    assert_eq!(info.connection.as_ref().map(|connection| connection.id), Some(7));
    assert!(info.filter_state.get("c").is_some() && info.filter_state.get("r").is_none());
    assert!(info.flags.is_empty() && info.details.is_empty() && info.custom_flags.is_empty());
    assert!(info.dynamic_metadata().is_none() && !info.upstream.is_used());
    assert_eq!(info.upstream.hosts_attempted().count(), 0);
    assert_eq!(info.timing.get(TimePoint::DownstreamRxEnd), None);
}

#[test]
fn points_before_the_stream_are_negative() {
    let start = Instant::now() + Duration::from_secs(10);
    let mut info = StreamInfo::new(start, UNIX_EPOCH);
    info.mark(TimePoint::UpstreamConnectBegin, start - Duration::from_nanos(30));
    info.mark(TimePoint::UpstreamConnectEnd, start + Duration::from_nanos(10));
    assert_eq!(info.timing.get(TimePoint::UpstreamConnectBegin), Some(-30));
    let between = |from, to| info.timing.between(from, to);
    assert_eq!(between(TimePoint::UpstreamConnectBegin, TimePoint::UpstreamConnectEnd), Some(Duration::from_nanos(40)));
    assert_eq!(between(TimePoint::UpstreamConnectEnd, TimePoint::UpstreamConnectBegin), None);
    for at in 0..100 {
        info.timing.set_custom(at.to_string().into(), start, start);
    }
    assert_eq!((info.timing.custom("63"), info.timing.custom("64")), (Some(0), None));
}

#[test]
fn addresses_print_as_envoys() {
    let internal = Address::Internal { listener: "l".into(), endpoint_id: "e".into() };
    for (address, whole, without_port) in [
        (address("10.0.0.255:80"), "10.0.0.255:80", "10.0.0.255"),
        (address("[2001:db8::1]:443"), "[2001:db8::1]:443", "2001:db8::1"),
        (Address::Pipe("@abstract".into()), "@abstract", "@abstract"),
        (internal, "envoy://l/e", "envoy://l/e"),
    ] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        address.write(&mut a);
        address.write_without_port(&mut b);
        assert_eq!((a, b), (whole.into(), without_port.into()));
        assert_eq!(address.to_string(), whole);
    }
}

#[test]
fn flags_have_names() {
    assert_eq!(ResponseFlags::from_short_name("UDO"), Ok(ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD));
    assert_eq!(ResponseFlags::from_short_name("XX"), Err(UnknownFlag("XX".to_owned())));
    assert_eq!(ResponseFlags::NONE.to_string(), "-");
    assert_eq!(ResponseFlags::DURATION_TIMEOUT.long_names().collect::<Vec<_>>(), ["DurationTimeout"]);
    let mut all = ResponseFlags::NONE;
    for name in ["LH", "UDO", "UC"] {
        all.insert(ResponseFlags::from_short_name(name).unwrap());
    }
    assert_eq!(all.short_names().collect::<Vec<_>>(), ["LH", "UC", "UDO"]);
    for name in all.short_names() {
        assert_eq!(ResponseFlags::from_short_name(name).map(|flag| flag.to_string()), Ok(name.to_owned()));
    }
}

#[test]
fn size_of_a_stream_is_bounded() {
    assert!(size_of::<StreamInfo>() <= 944, "{}", size_of::<StreamInfo>());
}
