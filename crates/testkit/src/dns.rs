//! A name server for tests: it answers A and AAAA questions from a table that a test changes while it runs. It knows
//! nothing of zones, TCP or extensions of the protocol.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the server looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);
const HEADER: usize = 12;
/// Seconds that an answer may be kept. Short, so that a change is seen with the next lookup.
const TTL: u32 = 1;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A name server on a UDP port, ended when dropped.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<HashMap<String, Vec<IpAddr>>>,
    questions: AtomicUsize,
    failing: AtomicBool,
    stopped: AtomicBool,
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameServer {
    /// Listens on `address`, whose port may be 0, and knows no name.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || serve(&socket, &serving)));
        Ok(Self { address, shared, thread })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name its addresses; with none it is as if the name did not exist.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.shared.names().insert(name.trim_end_matches('.').to_ascii_lowercase(), addresses.to_vec());
    }

    /// From now on every question is answered by a server failure, or no longer so.
    pub fn fail(&self, failing: bool) {
        self.shared.failing.store(failing, Ordering::Release);
    }

    /// How many questions have come.
    pub fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::Acquire)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0; 1500];
    while !shared.stopped.load(Ordering::Acquire) {
        let Ok((length, peer)) = socket.recv_from(&mut packet) else { continue };
        let Some(mut answer) = answer(&packet[..length], &shared.names()) else { continue };
        if shared.failing.load(Ordering::Acquire) {
            fail(&mut answer);
        }
        // Who asks again after a lost answer gets another one.
        let _ = socket.send_to(&answer, peer);
        shared.questions.fetch_add(1, Ordering::AcqRel);
    }
}

/// The answer to a question (RFC 1035 section 4.1), `None` when the packet is no question.
fn answer(packet: &[u8], names: &HashMap<String, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let (name, end) = read_name(packet)?;
    let kind = u16::from_be_bytes([*packet.get(end)?, *packet.get(end + 1)?]);
    let question = packet.get(HEADER..end + 4)?;
    let known = names.get(&name).filter(|addresses| !addresses.is_empty());
    let records: Vec<Vec<u8>> = known.into_iter().flatten().filter_map(|address| record(*address, kind)).collect();
    let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
    let mut reply = packet.get(..2)?.to_vec();
    // A response, recursion wanted and available; one question, the answers, nothing else.
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    reply.extend([0; 4]);
    reply.extend(question);
    reply.extend(records.concat());
    Some(reply)
}

/// Turns an answer into that of a server that failed.
fn fail(answer: &mut Vec<u8>) {
    let question = HEADER + answer[HEADER..].iter().position(|&byte| byte == 0).unwrap_or(0) + 5;
    answer.truncate(question);
    answer[3] = 0x80 | SERVER_FAILURE;
    answer[6..8].fill(0);
}

fn record(address: IpAddr, wanted: u16) -> Option<Vec<u8>> {
    let (kind, data) = match address {
        IpAddr::V4(address) => (TYPE_A, address.octets().to_vec()),
        IpAddr::V6(address) => (TYPE_AAAA, address.octets().to_vec()),
    };
    if kind != wanted {
        return None;
    }
    // The name is that of the question; class IN.
    let mut record = vec![0xc0, 0x0c];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(TTL.to_be_bytes());
    record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    record.extend(data);
    Some(record)
}

/// The name of the first question in lower case, and where it ends.
fn read_name(packet: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = packet.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ask(server: &NameServer, kind: u8) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        let mut question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03App\x04test\x00\x00".to_vec();
        question.extend([kind, 0, 1]);
        socket.send_to(&question, server.address()).unwrap();
        let mut reply = vec![0; 512];
        let length = socket.recv(&mut reply).unwrap();
        reply.truncate(length);
        reply
    }

    #[test]
    fn a_name_is_known_from_the_moment_it_is_set() {
        let server = NameServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(ask(&server, 1)[3] & 0xf, NO_SUCH_NAME);
        server.set("app.test", &[Ipv4Addr::new(10, 0, 0, 9).into()]);
        let reply = ask(&server, 1);
        assert_eq!((&reply[..2], reply[3] & 0xf, reply[7]), (&[0x12, 0x34][..], 0, 1));
        assert_eq!(reply[reply.len() - 4..], [10, 0, 0, 9]);
        assert_eq!(ask(&server, 28)[7], 0);
        server.fail(true);
        let reply = ask(&server, 1);
        assert_eq!((reply.len(), reply[3] & 0xf, reply[7]), (HEADER + 14, SERVER_FAILURE, 0));
    }
}
