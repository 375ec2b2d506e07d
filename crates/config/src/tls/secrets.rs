//! Secrets by name: of `static_resources.secrets`, of a file, or as discovery brought them.

use super::reading::Reading;
use crate::compile::{Invalid, message_of};
use crate::{LoadOptions, Source, load};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::{Message, Name};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a secret comes from. A source that is told of changes from elsewhere (SDS over xDS) is one more kind of it.
pub trait SecretSource: Send + Sync {
    /// The secret as it is now, or why there is none.
    fn secret(&self) -> Result<tls::Secret, String>;

    /// The files whose change may change it.
    fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The secrets that a configuration defines by itself, and those that discovery brought.
#[derive(Clone, Default)]
pub struct Secrets {
    named: BTreeMap<String, Arc<tls::Secret>>,
    discovered: Arc<DiscoveredSecrets>,
}

/// A secret of discovery: the digest of its source ([`digest_of`]), and its name.
pub type SecretKey = (u64, Arc<str>);

/// What discovery brought, by source and name. Contexts that are made later find it here.
#[derive(Default)]
pub struct DiscoveredSecrets {
    known: Mutex<HashMap<SecretKey, Arc<tls::Secret>>>,
}

impl DiscoveredSecrets {
    /// The secret, if it is there.
    pub fn get(&self, key: &SecretKey) -> Option<Arc<tls::Secret>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Takes a secret, or forgets it. Returns what was known before. Contexts must be refreshed.
    pub fn set(&self, key: &SecretKey, secret: Option<Arc<tls::Secret>>) -> Option<Arc<tls::Secret>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match secret {
            Some(secret) => known.insert(key.clone(), secret),
            None => known.remove(key),
        }
    }
}

/// The number that equal sources share.
pub(crate) fn digest_of(source: &core::ConfigSource) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&source.encode_to_vec());
    hasher.finish()
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

impl Secrets {
    /// `static_resources.secrets`. Of two with one name the first counts.
    pub(crate) fn new(secrets: Vec<tls::Secret>, discovered: Arc<DiscoveredSecrets>) -> Secrets {
        let mut named = BTreeMap::new();
        for secret in secrets {
            named.entry(secret.name.clone()).or_insert_with(|| Arc::new(secret));
        }
        Secrets { named, discovered }
    }

    /// What discovery brought.
    pub fn discovered(&self) -> &Arc<DiscoveredSecrets> {
        &self.discovered
    }

    /// A number that changes with any of those of the configuration.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for secret in self.named.values() {
            secret.encode_to_vec().hash(&mut hasher);
        }
        hasher.finish()
    }
}

struct Static(Arc<tls::Secret>);

impl SecretSource for Static {
    fn secret(&self) -> Result<tls::Secret, String> {
        Ok(tls::Secret::clone(&self.0))
    }
}

/// A file with a `DiscoveryResponse` of secrets.
struct InFile {
    path: PathBuf,
    watched_directory: Option<PathBuf>,
    name: String,
}

impl SecretSource for InFile {
    fn secret(&self) -> Result<tls::Secret, String> {
        let InFile { path, name, .. } = self;
        let secrets = secrets_of(path)?;
        let mut names: Vec<String> = secrets.iter().map(|secret| secret.name.clone()).collect();
        match secrets.into_iter().find(|secret| secret.name == *name) {
            Some(secret) => Ok(secret),
            None => {
                names.sort_unstable();
                Err(format!("{} has no secret {name}; it has: {}", path.display(), names.join(", ")))
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        [Some(self.path.clone()), self.watched_directory.clone()].into_iter().flatten().collect()
    }
}

fn secrets_of(path: &Path) -> Result<Vec<tls::Secret>, String> {
    let shown = path.display();
    let source = match Source::read(path) {
        Ok(source) => source,
        Err(error) => return Err(error.message),
    };
    let loaded = load(&[source], &DiscoveryResponse::full_name(), &LoadOptions::default());
    if loaded.diagnostics.has_errors() {
        return Err(format!("{shown}: {}", loaded.diagnostics.to_string().trim_end().replace('\n', "; ")));
    }
    let response =
        DiscoveryResponse::decode(&loaded.wire[..]).map_err(|error| format!("{shown} can't be decoded: {error}"))?;
    let mut secrets = Vec::with_capacity(response.resources.len());
    for (index, any) in response.resources.iter().enumerate() {
        let wrong = |what: &str| format!("{shown}: resources[{index}] {what}");
        if message_of(any) != tls::Secret::full_name() {
            return Err(wrong(&format!("is a {}, expected {}", message_of(any), tls::Secret::full_name())));
        }
        secrets
            .push(tls::Secret::decode(&any.value[..]).map_err(|error| wrong(&format!("can't be decoded: {error}")))?);
    }
    Ok(secrets)
}

/// The secret that an `SdsSecretConfig` names.
pub(super) fn named(config: &tls::SdsSecretConfig, cx: &mut Reading<'_>) -> Result<tls::Secret, Invalid> {
    if let Some(source) = config.sds_config.as_ref().filter(|source| is_discovered(source)) {
        let key = (digest_of(source), Arc::from(config.name.as_str()));
        let secret = cx.secrets.discovered.get(&key);
        cx.found.discovered.push(key);
        return match secret {
            Some(secret) => Ok(tls::Secret::clone(&secret)),
            None => {
                cx.found.is_pending = true;
                Err(Invalid)
            }
        };
    }
    let source = source(config, cx)?;
    cx.found.paths.extend(source.paths());
    source.secret().map_err(|text| cx.error(text, "the file holds a DiscoveryResponse whose resources are secrets"))
}

/// Whether a server brings the secret.
pub(super) fn is_discovered(source: &core::ConfigSource) -> bool {
    use core::config_source::ConfigSourceSpecifier as Kind;
    matches!(source.config_source_specifier, Some(Kind::ApiConfigSource(_) | Kind::Ads(_) | Kind::Self_(_)))
}

fn source(config: &tls::SdsSecretConfig, cx: &mut Reading<'_>) -> Result<Box<dyn SecretSource>, Invalid> {
    use core::config_source::ConfigSourceSpecifier as Kind;
    let tls::SdsSecretConfig { name, sds_config } = config;
    let Some(source) = sds_config else {
        return match cx.secrets.named.get(name) {
            Some(secret) => Ok(Box::new(Static(Arc::clone(secret)))),
            None => {
                let text = format!("there is no static secret named {name}");
                Err(cx.field("name").error(text, "define it under static_resources.secrets, or set sds_config"))
            }
        };
    };
    let mut cx = cx.field("sds_config");
    #[allow(deprecated)]
    let (path, watched_directory) = match &source.config_source_specifier {
        Some(Kind::PathConfigSource(file)) => (&file.path, file.watched_directory.as_ref()),
        Some(Kind::Path(path)) => (path, None),
        Some(Kind::ApiConfigSource(_) | Kind::Ads(_) | Kind::Self_(_)) => {
            // Found before this is asked.
            return Err(cx.error("is no file", "set path_config_source"));
        }
        None => return Err(cx.error("names no source", "set path_config_source")),
    };
    Ok(Box::new(InFile {
        path: path.into(),
        watched_directory: watched_directory.map(|directory| (&directory.path).into()),
        name: name.clone(),
    }))
}
