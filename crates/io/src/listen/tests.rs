//! Binds real sockets, all on port 0.

use std::collections::HashSet;
use std::net::TcpStream;

use super::*;
use crate::socket_option::SocketOptionValue;

fn ip(address: &str) -> ListenSpec {
    ListenSpec::new(Address::Ip(address.parse().unwrap()))
}

fn pipe(path: &std::path::Path) -> ListenSpec {
    ListenSpec::new(Address::pipe(path.to_str().unwrap()))
}

fn error(spec: &ListenSpec) -> String {
    bind(spec, 1).and_then(Bound::listen).map(drop).unwrap_err().to_string()
}

#[test]
fn workers_share_the_chosen_port() {
    for reuse_port in [true, false] {
        let spec = ListenSpec { reuse_port, ..ip("127.0.0.1:0") };
        let bound = bind(&spec, 3).unwrap();
        let address = bound.address().ip().unwrap();
        assert_ne!(address.port(), 0);
        let listeners = bound.listen().unwrap();
        assert_eq!(listeners.len(), 3);
        let ports: HashSet<_> =
            listeners.iter().map(|l| l.socket.local_addr().unwrap().as_socket().unwrap().port()).collect();
        assert_eq!(ports, HashSet::from([address.port()]));
        assert_eq!(listeners[2].address().to_string(), address.to_string());
        let cookies: HashSet<_> = listeners.iter().map(|l| l.socket.cookie().unwrap()).collect();
        assert_eq!(cookies.len(), if reuse_port { 3 } else { 1 });
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn port_in_use_names_the_holder() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let expected = format!(
        "cannot bind '{address}': Address already in use (the port is in use by another listener of this process; \
         stop that process or change `port_value`)"
    );
    assert_eq!(error(&ip(&address.to_string())), expected);
}

#[test]
fn hints() {
    let check = |spec: &ListenSpec, start: &str, hint: &str| {
        let text = error(spec);
        assert!(text.starts_with(start) && text.contains(hint), "{text}");
    };
    let absent = ip("198.51.100.1:0");
    check(&absent, "cannot bind '198.51.100.1:0': Cannot assign requested address", "`freebind: true`");
    let device = ListenSpec { device: Some("nosuchdevice0".into()), ..ip("127.0.0.1:0") };
    check(&device, "cannot bind '127.0.0.1:0': SO_BINDTODEVICE: ", "");
    let directory = tempfile::tempdir().unwrap();
    check(&pipe(&directory.path().join("no/such")), "cannot bind '", "the directory of the path does not exist");
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    check(&pipe(&file), "cannot bind '", "not a socket");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    check(&ListenSpec::new(Address::pipe(&"x".repeat(200))), "cannot bind 'xxx", "");
    let mode = ListenSpec { mode: 0o600, ..ListenSpec::new(Address::pipe("@nuncio-mode")) };
    check(&mode, "cannot bind '@nuncio-mode': set the mode: ", "no permissions");
}

#[test]
fn stale_unix_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let spec = ListenSpec { mode: 0o640, ..pipe(&path) };
    let listeners = bind(&spec, 2).unwrap().listen().unwrap();
    assert_eq!(listeners.len(), 2);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    UnixStream::connect(&path).unwrap();
    let text = error(&spec);
    assert!(text.contains("in use by another listener of this process; stop that process or change `path`"), "{text}");
}

#[test]
fn a_held_unix_socket_is_taken_over_with_the_connections_that_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let bound = bind(&pipe(&path), 1).unwrap();
    let held = bound.hold().unwrap().unwrap();
    let before = bound.listen().unwrap();
    let _waits = UnixStream::connect(&path).unwrap();
    let spec = ListenSpec { mode: 0o600, ..pipe(&path) };
    assert!(held.serves(&spec));
    let after = held.bind(&spec, 2).unwrap().listen().unwrap();
    assert_eq!((after.len(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777), (2, 0o600));
    drop((before, held));
    after[1].socket.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    let held = bind(&pipe(&path), 1).unwrap().hold().unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(!held.serves(&spec), "nobody would find the socket");
    assert!(bind(&ip("127.0.0.1:0"), 1).unwrap().hold().unwrap().is_none());
}

#[test]
fn ipv4_compat_decides_about_ipv4_clients() {
    if bind(&ip("[::1]:0"), 1).is_err() {
        eprintln!("no IPv6 here");
        return;
    }
    for compat in [true, false] {
        let bound = bind(&ListenSpec { ipv4_compat: compat, ..ip("[::]:0") }, 1).unwrap();
        let port = bound.address().ip().unwrap().port();
        let _listeners = bound.listen().unwrap();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), compat);
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[test]
fn options_are_set() {
    let option = |level, name, value, state| SocketOption { description: "test".into(), level, name, value, state };
    let spec = ListenSpec {
        tcp_fast_open: Some(7),
        freebind: Some(true),
        backlog: Some(17),
        options: vec![
            option(libc::SOL_SOCKET, libc::SO_PRIORITY, SocketOptionValue::Int(2), SocketState::Prebind),
            option(libc::IPPROTO_TCP, libc::TCP_MAXSEG, SocketOptionValue::Int(1000), SocketState::Bound),
            option(
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                SocketOptionValue::Bytes(1i32.to_ne_bytes().into()),
                SocketState::Listening,
            ),
        ],
        ..ip("198.51.100.1:0")
    };
    let listeners = bind(&spec, 1).unwrap().listen().unwrap();
    let get = |level, name| sys::socket_option(listeners[0].as_fd(), level, name).unwrap();
    assert_eq!(get(libc::SOL_SOCKET, libc::SO_PRIORITY), 2);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_MAXSEG), 1000);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), 1);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 7);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
    let wrong = option(libc::SOL_SOCKET, 9999, SocketOptionValue::Int(1), SocketState::Bound);
    let text = error(&ListenSpec { options: vec![wrong], ..ip("127.0.0.1:0") });
    assert!(text.contains("socket option test (level 1 name 9999): Protocol not available"), "{text}");
}

fn descriptors(listeners: &[Listener]) -> Vec<std::os::fd::OwnedFd> {
    listeners.iter().map(|l| l.as_fd().try_clone_to_owned().unwrap()).collect()
}

#[test]
fn sockets_of_another_process_keep_what_waits_in_them() {
    // From more to fewer workers and the other way round: every queue is somebody's.
    for (before, after, expected) in [(3, 1, 3), (1, 3, 3), (2, 2, 2)] {
        let spec = ip("127.0.0.1:0");
        let bound = bind(&spec, before).unwrap();
        let address = bound.address().clone();
        let old = bound.listen().unwrap();
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address.ip().unwrap()).unwrap()).collect();
        let inherited = Inherited::new(address.clone(), descriptors(&old)).unwrap();
        drop(old);
        let wanted = ListenSpec { address: address.clone(), backlog: Some(100), ..spec };
        assert!(inherited.serves(&wanted));
        assert!(inherited.serves(&ip("127.0.0.1:0")), "any port");
        assert!(!inherited.serves(&ip("127.0.0.1:1")) && !inherited.serves(&ip("127.0.0.2:0")));
        let new = inherited.bind(&wanted, after).unwrap().listen().unwrap();
        assert_eq!(new.len(), expected, "{before} → {after}");
        let mut waiting = 0;
        for listener in &new {
            assert_eq!(listener.address(), &address);
            while listener.socket.accept().is_ok() {
                waiting += 1;
            }
        }
        assert_eq!(waiting, clients.len());
    }
}

#[test]
fn a_shared_socket_of_another_process_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for spec in [pipe(&path), ListenSpec { reuse_port: false, ..ip("127.0.0.1:0") }] {
        let bound = bind(&spec, 3).unwrap();
        let address = bound.address().clone();
        let old = bound.listen().unwrap();
        let inherited = Inherited::new(address.clone(), descriptors(&old)).unwrap();
        drop(old);
        // With SO_REUSEPORT no second socket could be bound beside it.
        let wanted = ListenSpec { address, reuse_port: true, ..spec };
        assert!(inherited.serves(&wanted));
        let bound = inherited.bind(&wanted, 2).unwrap();
        assert!(bound.hold().unwrap().is_some());
        let new = bound.listen().unwrap();
        let cookies: HashSet<_> = new.iter().map(|l| l.socket.cookie().unwrap()).collect();
        assert_eq!((new.len(), cookies.len()), (2, 1));
    }
}

#[test]
fn only_listening_sockets_of_the_address_are_taken() {
    let bound = bind(&ip("127.0.0.1:0"), 1).unwrap();
    let address = bound.address().clone();
    let listening = bound.listen().unwrap();
    let other = Address::Ip("127.0.0.1:1".parse().unwrap());
    assert!(Inherited::new(other, descriptors(&listening)).is_err());
    assert!(Inherited::new(address.clone(), Vec::new()).is_err());
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Inherited::new(address.clone(), vec![file.into()]).is_err());
    let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert!(Inherited::new(address, vec![idle.into()]).is_err());
}
