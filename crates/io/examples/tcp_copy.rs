//! Measures what it costs to move a gigabyte between two TCP sockets, by `splice` and by copying.
//!
//! ```text
//! tcp_copy proxy <mode> <listen> <upstream>   forwards; mode: auto, copy:<KiB> or splice:<KiB>
//! tcp_copy source <listen> [bytes]            sends as fast as it can, in writes of so many bytes (default 131072)
//! tcp_copy load <proxy> <pid> <GB> <n>        reads over n connections; prints CPU seconds per GB of process <pid>
//! ```
//!
//! Pin the proxy to one core and the others to another, and alternate the modes: the figures drift with the machine.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nuncio_io::splice::{Splice, SpliceSettings};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["proxy", mode, listen, upstream] => proxy(settings(mode)?, listen.parse()?, upstream.parse()?),
        ["source", listen] => source(listen.parse()?, 128 * 1024),
        ["source", listen, bytes] => source(listen.parse()?, bytes.parse()?),
        ["load", address, pid, gigabytes, connections] => {
            load(address.parse()?, pid, gigabytes.parse()?, connections.parse()?)
        }
        _ => Err("see the top of examples/tcp_copy.rs".into()),
    }
}

fn settings(mode: &str) -> Result<SpliceSettings, Failure> {
    let default = SpliceSettings::default();
    Ok(match mode.split_once(':') {
        None if mode == "auto" => default,
        Some(("copy", kib)) => SpliceSettings { pipe_bytes: 0, copy_bytes: kib.parse::<usize>()? << 10, ..default },
        Some(("splice", kib)) => SpliceSettings { pipe_bytes: kib.parse::<usize>()? << 10, splice_after: 0, ..default },
        _ => return Err(format!("unknown mode {mode}").into()),
    })
}

fn proxy(settings: SpliceSettings, listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        loop {
            let (downstream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let upstream = tokio::net::TcpStream::connect(upstream).await?;
                let mut splice = Splice::with_settings(settings, Instant::now());
                let moved = std::future::poll_fn(|cx| splice.poll(cx, &downstream, &upstream, Instant::now())).await;
                moved.map(drop).map_err(io::Error::other)
            });
        }
    })
}

fn source(listen: SocketAddr, bytes: usize) -> Result<(), Failure> {
    for stream in TcpListener::bind(listen)?.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let chunk = vec![b'x'; bytes];
            while stream.write_all(&chunk).is_ok() {}
        });
    }
    Ok(())
}

fn load(address: SocketAddr, pid: &str, gigabytes: f64, connections: usize) -> Result<(), Failure> {
    let want = (gigabytes * 1e9) as u64;
    let (before, start, moved) = (cpu_ticks(pid)?, Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..connections).map(|_| scope.spawn(|| read(address, want, &moved))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| io::Error::other("reader failed"))?)
    })?;
    let moved = moved.into_inner() as f64 / 1e9;
    let cpu = (cpu_ticks(pid)? - before) as f64 / 100.0;
    println!("{:.3} CPU s/GB  {:.2} GB/s", cpu / moved, moved / start.elapsed().as_secs_f64());
    Ok(())
}

fn read(address: SocketAddr, want: u64, moved: &AtomicU64) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut buffer = vec![0; 256 * 1024];
    while moved.load(Ordering::Relaxed) < want {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// User and system time of a process so far, in hundredths of a second.
fn cpu_ticks(pid: &str) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).ok_or("short stat")?.parse::<u64>().map_err(Failure::from);
    Ok(field(11)? + field(12)?)
}
