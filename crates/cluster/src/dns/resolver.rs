//! Asking name servers. Owns the resolvers, and when they read their configuration again.

use crate::config::{DnsLookupFamily, ResolverOptions};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::Protocol;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use std::cell::{Cell, RefCell};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Files that names are resolved by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFiles {
    /// Name servers, search list, options. Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Names that need no name server. Default `/etc/hosts`.
    pub hosts: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        SystemFiles { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

/// Most names that are resolved at once, so that 10,000 clusters at the start don't need 20,000 sockets.
const MAX_LOOKUPS: usize = 128;
/// After so many failures in a row a resolver is made anew: nothing may stay broken for good.
const MAX_FAILURES: u32 = 4;

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// In the order of the answer; empty if the name has no addresses of the wanted family.
    pub(crate) addresses: Vec<IpAddr>,
    /// The shortest time to live of the records; `None` if they came from a file, or there are none.
    pub(crate) ttl: Option<Duration>,
}

/// Addresses of one family: those of the answer, or why there is none. `Ok` and empty: the name has none.
type Family = Result<Answer, NetError>;

/// All resolvers, by their options.
pub(crate) struct Resolvers {
    default: Arc<ResolverOptions>,
    files: Rc<SystemFiles>,
    made: RefCell<Vec<(Arc<ResolverOptions>, Rc<Resolver>)>>,
    lookups: Rc<Semaphore>,
}

impl Resolvers {
    pub(crate) fn new(default: Arc<ResolverOptions>, files: SystemFiles) -> Self {
        Resolvers {
            default,
            files: Rc::new(files),
            made: RefCell::default(),
            lookups: Rc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// The resolver with these options, or the proxy's.
    pub(crate) fn get(&self, options: Option<&Arc<ResolverOptions>>) -> Rc<Resolver> {
        let options = options.unwrap_or(&self.default);
        let mut made = self.made.borrow_mut();
        if let Some((_, resolver)) = made.iter().find(|(known, _)| known == options) {
            return resolver.clone();
        }
        let resolver = Rc::new(Resolver {
            options: options.clone(),
            files: self.files.clone(),
            state: RefCell::default(),
            failures: Cell::new(0),
            lookups: self.lookups.clone(),
        });
        made.push((options.clone(), resolver.clone()));
        resolver
    }
}

/// One resolver. Follows changes of its files.
pub(crate) struct Resolver {
    options: Arc<ResolverOptions>,
    files: Rc<SystemFiles>,
    state: RefCell<Option<State>>,
    failures: Cell<u32>,
    lookups: Rc<Semaphore>,
}

struct State {
    /// Or why there is none.
    resolver: Result<TokioResolver, String>,
    hosts: Rc<Hosts>,
    stamps: [Option<Stamp>; 2],
}

/// Tells two versions of a file apart: time of change, length, inode.
type Stamp = (SystemTime, u64, u64);

impl Resolver {
    /// Resolves a name. `Err` says in words what went wrong; nothing is known about the name then.
    pub(crate) async fn lookup(&self, name: &str, family: DnsLookupFamily) -> Result<Answer, String> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Answer { addresses: vec![address], ttl: None });
        }
        let _permit = self.lookups.acquire().await.map_err(|error| error.to_string())?;
        let (resolver, hosts) = self.current();
        let name = Name::from_str(name).map_err(|error| error.to_string())?;
        if let Some(answer) = from_file(&hosts, &name, family) {
            return Ok(answer);
        }
        let answer = self.ask(&resolver?, &name, family).await;
        let failures = if answer.is_err() { self.failures.get() + 1 } else { 0 };
        self.failures.set(failures);
        if failures >= MAX_FAILURES {
            self.failures.set(0);
            *self.state.borrow_mut() = None;
        }
        answer.map_err(|error| error.to_string())
    }

    async fn ask(&self, resolver: &TokioResolver, name: &Name, family: DnsLookupFamily) -> Result<Answer, NetError> {
        let v4 = async || query(resolver, name, RecordType::A).await;
        let v6 = async || query(resolver, name, RecordType::AAAA).await;
        match family {
            DnsLookupFamily::V4Only => v4().await,
            DnsLookupFamily::V6Only => v6().await,
            DnsLookupFamily::Auto => prefer(v6().await, v4).await,
            DnsLookupFamily::V4Preferred => prefer(v4().await, v6).await,
            DnsLookupFamily::All => {
                let (v4, v6) = tokio::join!(v4(), v6());
                both(v4, v6)
            }
        }
    }

    /// The resolver, made anew if a file that it was made from has changed.
    fn current(&self) -> (Result<TokioResolver, String>, Rc<Hosts>) {
        let stamps = [stamp(&self.files.resolv_conf), stamp(&self.files.hosts)];
        if let Some(state) = &*self.state.borrow()
            && state.stamps == stamps
        {
            return (state.resolver.clone(), state.hosts.clone());
        }
        let hosts = Rc::new(read_hosts(&self.files.hosts));
        let path = &self.files.resolv_conf;
        let resolver = build(&self.options, path).map_err(|error| format!("{}: {error}", path.display()));
        let state = State { resolver: resolver.clone(), hosts: hosts.clone(), stamps };
        *self.state.borrow_mut() = Some(state);
        (resolver, hosts)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// A file that is missing or can't be read has no names.
fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    if let Ok(text) = fs::read(path)
        && let Err(error) = hosts.read_hosts_conf(text.as_slice())
    {
        tracing::warn!("{}: {error}", path.display());
    }
    hosts
}

fn build(options: &ResolverOptions, resolv_conf: &Path) -> Result<TokioResolver, NetError> {
    let use_system = options.servers.is_empty() || options.system_fallback;
    let (system, mut opts) = match use_system {
        true => hickory_resolver::system_conf::parse_resolv_conf(fs::read(resolv_conf)?)?,
        false => (ResolverConfig::default(), ResolverOpts::default()),
    };
    let (domain, search, system_servers) = system.into_parts();
    let mut servers: Vec<NameServerConfig> = options.servers.iter().map(|server| name_server(*server)).collect();
    servers.extend(system_servers);
    if options.use_tcp {
        for server in &mut servers {
            server.connections.retain(|connection| connection.protocol.to_protocol() != Protocol::Udp);
        }
    }
    // Answers are asked for when they are needed; a cache would only make them late.
    opts.cache_size = 0;
    opts.use_hosts_file = ResolveHosts::Never;
    if let Some(timeout) = options.query_timeout {
        opts.timeout = timeout;
    }
    if let Some(tries) = options.query_tries {
        opts.attempts = tries as usize;
    }
    let (domain, search) = if options.no_default_search_domain { (None, Vec::new()) } else { (domain, search) };
    let config = ResolverConfig::from_parts(domain, search, servers);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(opts).build()
}

fn name_server(address: std::net::SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

async fn query(resolver: &TokioResolver, name: &Name, record_type: RecordType) -> Family {
    match resolver.lookup(name.clone(), record_type).await {
        Ok(lookup) => {
            let records = lookup.answers().iter().filter(|record| record.record_type() == record_type);
            let ttl = lookup.answers().iter().map(|record| record.ttl).min();
            let addresses = records.filter_map(|record| address(&record.data)).collect();
            Ok(Answer { addresses, ttl: ttl.map(|seconds| Duration::from_secs(u64::from(seconds))) })
        }
        // The server knows that there is nothing.
        Err(error) if error.is_no_records_found() => Ok(Answer { addresses: Vec::new(), ttl: None }),
        Err(error) => Err(error),
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// The second family is asked if the first one has no addresses. Only if both have none for sure there are none: a
/// family that failed may have some.
async fn prefer(first: Family, second: impl AsyncFnOnce() -> Family) -> Family {
    match first {
        Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
        Ok(none) => second().await.map(|answer| if answer.addresses.is_empty() { none } else { answer }),
        Err(error) => match second().await {
            Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
            _ => Err(error),
        },
    }
}

/// The addresses of both families; one of them is enough.
fn both(v4: Family, v6: Family) -> Family {
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => {
            let ttl = [v4.ttl, v6.ttl].into_iter().flatten().min();
            Ok(Answer { addresses: v4.addresses.into_iter().chain(v6.addresses).collect(), ttl })
        }
        (Ok(answer), Err(error)) | (Err(error), Ok(answer)) => match answer.addresses.is_empty() {
            true => Err(error),
            false => Ok(answer),
        },
        (Err(error), Err(_)) => Err(error),
    }
}

/// What the hosts file says of a name, and of `localhost` if it says nothing. A name that it has is not asked for.
fn from_file(hosts: &Hosts, name: &Name, family: DnsLookupFamily) -> Option<Answer> {
    let find = |record_type| {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), record_type));
        let found = found.iter().flat_map(|lookup| lookup.answers());
        found.filter_map(|record| address(&record.data)).collect::<Vec<_>>()
    };
    let (mut v4, mut v6) = (find(RecordType::A), find(RecordType::AAAA));
    if v4.is_empty() && v6.is_empty() {
        if !name.is_localhost() {
            return None;
        }
        v4.push(IpAddr::from([127, 0, 0, 1]));
        v6.push(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
    }
    let addresses = match family {
        DnsLookupFamily::V4Only => v4,
        DnsLookupFamily::V6Only => v6,
        DnsLookupFamily::Auto if v6.is_empty() => v4,
        DnsLookupFamily::Auto => v6,
        DnsLookupFamily::V4Preferred if v4.is_empty() => v6,
        DnsLookupFamily::V4Preferred => v4,
        DnsLookupFamily::All => v4.into_iter().chain(v6).collect(),
    };
    (!addresses.is_empty()).then_some(Answer { addresses, ttl: None })
}
