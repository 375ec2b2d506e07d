//! Filters whose configuration discovery brings: another factory takes the place of the present one while it is used.

use crate::{
    Connection, End, HttpFilter, HttpFilterFactory, Interest, ListenerFilter, ListenerFilterFactory, LocalReply,
    NetworkFilter, NetworkFilterFactory, OpenStep, PeekStep, Peeked, Step, Stream, TerminalFilterFactory, Worker,
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use nuncio_stats::names::ListenerExtensionConfigStats;
use nuncio_stream_info::ResponseFlags;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

/// What is in force, and what is if discovery brings nothing. Reading takes no lock.
pub struct Live<T: ?Sized> {
    current: ArcSwapOption<Arc<T>>,
    default: OnceLock<Arc<T>>,
    /// `listener.<address>.extension_config_missing`; none for HTTP filters.
    missing: Option<ListenerExtensionConfigStats>,
}

/// An HTTP filter of discovery.
pub type LiveHttpFilter = Live<dyn HttpFilterFactory>;
/// A network filter of discovery.
pub type LiveNetworkFilter = Live<dyn NetworkFilterFactory>;
/// The last filter of a chain, of discovery.
pub type LiveTerminalFilter = Live<dyn TerminalFilterFactory>;
/// A listener filter of discovery.
pub type LiveListenerFilter = Live<dyn ListenerFilterFactory>;

impl<T: ?Sized> std::fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl<T: ?Sized> Live<T> {
    /// Without a configuration.
    pub fn new(missing: Option<ListenerExtensionConfigStats>) -> Live<T> {
        Live { current: ArcSwapOption::empty(), default: OnceLock::new(), missing }
    }

    /// Puts a configuration in force for what begins from here on.
    pub fn set(&self, factory: Arc<T>) {
        self.current.store(Some(Arc::new(factory)));
    }

    /// Says what is in force if discovery brings nothing (`default_config`). Only once.
    pub fn set_default(&self, factory: Arc<T>) {
        // A second one would be a mistake of the caller; the first one stays.
        let _ = self.default.set(factory);
    }

    /// Puts the default in force, or nothing if there is none.
    pub fn fall_back(&self) {
        self.current.store(self.default.get().map(|factory| Arc::new(Arc::clone(factory))));
    }

    fn get(&self) -> Option<Arc<T>> {
        self.current.load().as_ref().map(|factory: &Arc<Arc<T>>| Arc::clone(&**factory))
    }
}

impl HttpFilterFactory for LiveHttpFilter {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        match self.get() {
            Some(factory) => factory.create(worker),
            None => Box::new(NotConfigured),
        }
    }

    fn interest(&self) -> Interest {
        // The configuration may change between this and the stream's filter.
        Interest::ALL
    }
}

impl NetworkFilterFactory for LiveNetworkFilter {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        match self.get() {
            Some(factory) => factory.create(worker),
            None => {
                if let Some(missing) = &self.missing {
                    missing.network_extension_config_missing().inc();
                }
                Box::new(NotConfigured)
            }
        }
    }

    fn looks_at_bytes(&self) -> bool {
        self.get().is_none_or(|factory| factory.looks_at_bytes())
    }
}

impl TerminalFilterFactory for LiveTerminalFilter {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        match self.get() {
            Some(factory) => factory.serve(connection),
            None => {
                if let Some(missing) = &self.missing {
                    missing.network_extension_config_missing().inc();
                }
                // Dropping the connection closes it.
                Box::pin(async move { drop(connection) })
            }
        }
    }

    fn counts_bytes(&self) -> bool {
        self.get().is_some_and(|factory| factory.counts_bytes())
    }
}

impl ListenerFilterFactory for LiveListenerFilter {
    fn create(&self) -> Box<dyn ListenerFilter> {
        match self.get() {
            Some(factory) => factory.create(),
            None => {
                if let Some(missing) = &self.missing {
                    missing.extension_config_missing().inc();
                }
                Box::new(NotConfigured)
            }
        }
    }

    fn disabled_for(&self, destination_port: u16) -> bool {
        self.get().is_some_and(|factory| factory.disabled_for(destination_port))
    }
}

/// Refuses whatever comes, as long as the configuration has not.
struct NotConfigured;

impl HttpFilter for NotConfigured {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        stream.info.flags.insert(ResponseFlags::NO_FILTER_CONFIG_FOUND);
        Step::Reply(LocalReply::new(500, Bytes::new(), "filter_config_not_found"))
    }
}

impl NetworkFilter for NotConfigured {
    fn on_open(&mut self, _connection: &Connection) -> OpenStep {
        OpenStep::Close("filter_config_not_found")
    }
}

impl ListenerFilter for NotConfigured {
    fn max_bytes(&self) -> usize {
        0
    }

    fn peek(&mut self, _: &tokio::net::TcpStream, _: &[u8], _: bool, _: &mut Peeked) -> PeekStep {
        PeekStep::Close
    }
}
