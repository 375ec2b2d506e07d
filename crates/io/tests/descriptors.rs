//! What happens when descriptors run out. One test in a process of its own: the limit holds for all of it.

use std::fs::File;

use nuncio_io::Address;
use nuncio_io::accept::{Acceptor, Outcome};
use nuncio_io::fd_limit;
use nuncio_io::listen::{ListenSpec, bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The clock is paused: the pause between two attempts takes no time, and is seen on the clock.
#[tokio::test(start_paused = true)]
async fn existing_connections_go_on() {
    let mut listeners =
        bind(&ListenSpec::new(Address::Ip("127.0.0.1:0".parse().unwrap())), 1).unwrap().listen().unwrap();
    let mut acceptor = Acceptor::new(listeners.remove(0), None).unwrap();
    let address = acceptor.address().ip().unwrap();
    let mut old_client = TcpStream::connect(address).await.unwrap();
    let Outcome::Connection(old) = acceptor.accept().await.unwrap() else { unreachable!("descriptors are left") };
    let _new_client = TcpStream::connect(address).await.unwrap();

    let before = fd_limit::raise().unwrap();
    fd_limit::set_soft(64).unwrap();
    let mut fillers = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        fillers.push(file);
    }
    for _ in 0..10 {
        assert!(
            matches!(acceptor.accept().await.unwrap(), Outcome::Exhausted(e) if e.raw_os_error() == Some(libc::EMFILE))
        );
    }
    let start = Instant::now();
    assert!(matches!(acceptor.accept().await.unwrap(), Outcome::Exhausted(_)));
    assert_eq!(start.elapsed().as_millis().div_ceil(10), 10, "no busy loop: 100 ms between attempts");

    old_client.write_all(b"still here").await.unwrap();
    let stream = old.stream.tcp().unwrap();
    let mut got = [0; 10];
    stream.readable().await.unwrap();
    assert_eq!(stream.try_read(&mut got).unwrap(), 10);

    drop(fillers);
    assert!(matches!(acceptor.accept().await.unwrap(), Outcome::Connection(_)));
    drop(old);
    assert_eq!(old_client.read(&mut got).await.unwrap(), 0);

    let after = fd_limit::raise().unwrap();
    assert_eq!((after.before, after.now, after.hard), (64, before.hard, before.hard));
}
