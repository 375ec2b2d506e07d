//! Scripted peers for tests: a name server, and a TCP server that answers as told. They run in the test's own `LocalSet`,
//! so that the paused clock never runs ahead of them.

use crate::config::ResolverOptions;
use crate::dns::SystemFiles;
use crate::manager::{ClusterManager, ClusterManagerOptions};
use crate::worker::{LbContext, WorkerClusters};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use nuncio_stats::Store;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::LocalSet;

/// Runs a test within a `LocalSet`. The clock must be paused: `#[tokio::test(start_paused = true)]`.
pub(crate) async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Waits, in paused time, until something is true.
pub(crate) async fn until(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// A manager, its store and one worker.
pub(crate) struct Setup {
    pub(crate) store: Arc<Store>,
    pub(crate) manager: ClusterManager,
    pub(crate) worker: WorkerClusters,
    rng: RefCell<fastrand::Rng>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Setup::with_servers(Vec::new())
    }

    /// With these name servers.
    pub(crate) fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Setup::with_files(servers, SystemFiles::default())
    }

    /// With these name servers and files.
    pub(crate) fn with_files(servers: Vec<SocketAddr>, files: SystemFiles) -> Self {
        let store = Arc::new(Store::new(1));
        let resolver = ResolverOptions {
            servers,
            query_timeout: Some(Duration::from_secs(1)),
            query_tries: Some(1),
            no_default_search_domain: true,
            ..ResolverOptions::default()
        };
        let options = ClusterManagerOptions { resolver: Arc::new(resolver), files, ..ClusterManagerOptions::default() };
        let manager = ClusterManager::new(store.clone(), options);
        let worker = WorkerClusters::start(manager.worker());
        Setup { store, manager, worker, rng: RefCell::new(fastrand::Rng::with_seed(3)) }
    }

    /// The address of the next host of a cluster, on the worker.
    pub(crate) fn choose(&self, cluster: &str) -> Option<String> {
        self.worker.apply_pending();
        let mut rng = self.rng.borrow_mut();
        let mut cx = LbContext::new(crate::manager::now(), &mut rng);
        let host = self.worker.get(cluster)?.choose_host(&mut cx)?;
        Some(host.destination().info.address.to_string())
    }

    /// All hosts of a cluster that the worker knows, as `address flags`.
    pub(crate) fn hosts(&self, cluster: &str) -> Vec<String> {
        self.worker.apply_pending();
        let Some(cluster) = self.worker.get(cluster) else { return Vec::new() };
        let hosts = cluster.hosts();
        hosts.hosts().map(|host| format!("{} {}", host.destination().info.address, host.health_flags())).collect()
    }

    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.store.value(name).unwrap_or_else(|| panic!("no stat {name}"))
    }
}

/// What a name server answers to one question.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Addresses(Vec<IpAddr>, u32),
    NxDomain,
    NoData,
    ServFail,
    Silence,
}

pub(crate) fn v4(addresses: &[[u8; 4]]) -> Reply {
    Reply::Addresses(addresses.iter().map(|address| IpAddr::from(*address)).collect(), 30)
}

/// A name server on a port of its own.
#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    replies: Rc<RefCell<HashMap<(String, RecordType), Reply>>>,
    pub(crate) queries: Rc<Cell<u32>>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let this = NameServer { address: socket.local_addr().unwrap(), replies: Rc::default(), queries: Rc::default() };
        let server = this.clone();
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = server.answer(&buffer[..len]) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        this
    }

    /// What is answered for a name from now on; a name that nothing was said of does not exist.
    pub(crate) fn set(&self, name: &str, a: Reply, aaaa: Reply) {
        let mut replies = self.replies.borrow_mut();
        replies.insert((format!("{name}."), RecordType::A), a);
        replies.insert((format!("{name}."), RecordType::AAAA), aaaa);
    }

    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.queries.set(self.queries.get() + 1);
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let key = (question.name().to_string(), question.query_type());
        let reply = self.replies.borrow().get(&key).cloned().unwrap_or(Reply::NxDomain);
        let mut message = Message::response(query.metadata.id, query.metadata.op_code);
        message.add_query(question.clone());
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        match reply {
            Reply::Silence => return None,
            Reply::NxDomain => message.metadata.response_code = ResponseCode::NXDomain,
            Reply::ServFail => message.metadata.response_code = ResponseCode::ServFail,
            Reply::NoData => {}
            Reply::Addresses(addresses, ttl) => {
                for address in addresses {
                    let data = match address {
                        IpAddr::V4(address) => RData::A(A(address)),
                        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
                    };
                    message.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
                }
            }
        }
        message.to_vec().ok()
    }
}

/// What a TCP server does with each request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Send(String),
    SendAndClose(String),
    Close,
    Silence,
}

impl Act {
    /// A response without a body.
    pub(crate) fn status(status: u16) -> Act {
        Act::Send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// A TCP server on a port of its own. Whatever arrives in one piece is one request.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    act: Rc<RefCell<Act>>,
    pub(crate) connections: Rc<Cell<u32>>,
    pub(crate) requests: Rc<RefCell<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Server {
            address: listener.local_addr().unwrap(),
            act: Rc::new(RefCell::new(act)),
            connections: Rc::default(),
            requests: Rc::default(),
        };
        let server = this.clone();
        tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                server.connections.set(server.connections.get() + 1);
                tokio::task::spawn_local(server.clone().serve(socket));
            }
        });
        this
    }

    pub(crate) fn set(&self, act: Act) {
        *self.act.borrow_mut() = act;
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.borrow().len()
    }

    async fn serve(self, socket: TcpStream) {
        let mut buffer = [0; 4096];
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            let len = match socket.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            self.requests.borrow_mut().push(String::from_utf8_lossy(&buffer[..len]).into_owned());
            let act = self.act.borrow().clone();
            match act {
                Act::Send(answer) => {
                    socket.try_write(answer.as_bytes()).unwrap();
                }
                Act::SendAndClose(answer) => {
                    socket.try_write(answer.as_bytes()).unwrap();
                    return;
                }
                Act::Close => return,
                Act::Silence => {}
            }
        }
    }
}
