//! What a filter may ask of the worker that it runs on.

use crate::Runtime;
use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// One worker thread: its number, its clock, its random numbers, its runtime values and its services.
pub struct Worker {
    id: u32,
    now: Cell<Instant>,
    wall: Cell<(Instant, SystemTime)>,
    rng: RefCell<fastrand::Rng>,
    runtime: RefCell<Arc<Runtime>>,
    services: Services,
    next_id: Cell<u64>,
    failing: Cell<bool>,
    doing: Arc<AtomicU64>,
}

/// How long a reading of the wall clock is extended by the monotonic clock before it is read again.
const WALL_CLOCK_AGE: Duration = Duration::from_secs(1);

impl Worker {
    /// A worker. `seed` decides its random numbers.
    pub fn new(id: u32, seed: u64, runtime: Arc<Runtime>) -> Rc<Worker> {
        let now = tokio::time::Instant::now().into_std();
        Rc::new(Worker {
            id,
            now: Cell::new(now),
            wall: Cell::new((now, SystemTime::now())),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            runtime: RefCell::new(runtime),
            services: Services::default(),
            next_id: Cell::new(0),
            failing: Cell::new(false),
            doing: Arc::default(),
        })
    }

    /// The worker's number; 0 is the main thread, workers start at 1.
    #[inline]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Reads the clock. A connection does so once each time it is woken.
    #[inline]
    pub fn tick(&self) -> Instant {
        let now = tokio::time::Instant::now().into_std();
        self.now.set(now);
        now
    }

    /// Says which connection the thread works on from now on, for the watchdog.
    #[inline]
    pub fn works_on(&self, connection: u64) {
        self.doing.store(connection, Relaxed);
    }

    /// Where [`Worker::works_on`] says it.
    pub fn doing(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.doing)
    }

    /// The time of the present wakeup.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The wall-clock time of the present wakeup.
    #[inline]
    pub fn wall(&self) -> SystemTime {
        let (at, wall) = self.wall.get();
        let age = self.now.get().saturating_duration_since(at);
        if age < WALL_CLOCK_AGE {
            return wall + age;
        }
        let wall = SystemTime::now();
        self.wall.set((self.now.get(), wall));
        wall
    }

    /// A random number.
    #[inline]
    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    /// The random number generator, for what needs more than one. Not to be held across a hook.
    #[inline]
    pub fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }

    /// An id that no other connection or stream of this process has.
    #[inline]
    pub fn unique_id(&self) -> u64 {
        let next = self.next_id.get() + 1;
        self.next_id.set(next);
        (next << 8) | u64::from(self.id & 0xff)
    }

    /// The runtime values in force.
    pub fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime.borrow())
    }

    /// Reads runtime values without cloning the handle.
    #[inline]
    pub fn with_runtime<T>(&self, read: impl FnOnce(&Runtime) -> T) -> T {
        read(&self.runtime.borrow())
    }

    /// Puts new runtime values in force.
    pub fn set_runtime(&self, runtime: Arc<Runtime>) {
        *self.runtime.borrow_mut() = runtime;
    }

    /// Whether the process fails its health checks (`/healthcheck/fail`).
    #[inline]
    pub fn fails_health_checks(&self) -> bool {
        self.failing.get()
    }

    /// Fails health checks from now on, or passes them again.
    pub fn fail_health_checks(&self, fail: bool) {
        self.failing.set(fail);
    }

    /// The services of this worker.
    pub fn services(&self) -> &Services {
        &self.services
    }
}

/// The address of this host that stands in `x-forwarded-for` for a client on the same host; a service of workers.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub std::net::IpAddr);

/// What a worker offers, by type: the cluster manager, the HTTP client, a script engine. Looked up once per connection
/// or filter, never per request on the common path.
#[derive(Default)]
pub struct Services {
    by_type: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
}

impl Services {
    /// Offers a service; replaces the one of the same type.
    pub fn insert<T: 'static>(&self, service: Rc<T>) {
        self.by_type.borrow_mut().insert(TypeId::of::<T>(), service);
    }

    /// The service of a type.
    pub fn get<T: 'static>(&self) -> Option<Rc<T>> {
        let service = Rc::clone(self.by_type.borrow().get(&TypeId::of::<T>())?);
        service.downcast().ok()
    }

    /// The service of a type, made on first use.
    pub fn get_or_insert_with<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        if let Some(service) = self.get::<T>() {
            return service;
        }
        let service = Rc::new(make());
        self.insert(Rc::clone(&service));
        service
    }
}
