//! One resource of a response, as bytes.

use crate::ResourceType;
use crate::pb;
use nuncio_api::wkt::Any;
use prost::Message;
use std::time::Duration;

/// A resource as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Other names that it was asked for by.
    pub aliases: Vec<String>,
    /// Its version; of a state-of-the-world response that of the response.
    pub version: String,
    /// The message, as wire bytes. Empty says of virtual hosts that nothing is behind the aliases.
    pub body: Vec<u8>,
    /// How long it is valid without being sent again. None is for ever.
    pub ttl: Option<Duration>,
}

impl Resource {
    /// A resource of a file, or of a polled answer.
    ///
    /// # Errors
    /// What makes it no resource of the kind.
    pub fn of_any(any: Any, kind: ResourceType, version: &str) -> Result<Resource, String> {
        match of_response(any, kind, version)? {
            Element::Full(resource) => Ok(resource),
            Element::Heartbeat { name, .. } => Err(format!("the resource {name} has no body")),
        }
    }
}

/// Why a resource of a response is no resource of its kind.
pub(crate) type Malformed = String;

/// The full name of the wrapper that carries a time to live in state-of-the-world responses.
const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// What an element of a state-of-the-world response is.
pub(crate) enum Element {
    Full(Resource),
    /// A wrapper without a body: only the time to live is new.
    Heartbeat {
        name: String,
        version: String,
        ttl: Option<Duration>,
    },
}

/// Reads an element of `DiscoveryResponse.resources`.
pub(crate) fn of_response(any: Any, kind: ResourceType, version: &str) -> Result<Element, Malformed> {
    if any.type_url != WRAPPER {
        let name = name_of(&any, kind)?;
        let resource = Resource { name, aliases: Vec::new(), version: version.to_owned(), body: any.value, ttl: None };
        return Ok(Element::Full(resource));
    }
    let wrapper = pb::Resource::decode(&any.value[..]).map_err(|error| format!("can't decode a Resource: {error}"))?;
    let pb::Resource { name, aliases, version: own, resource, ttl, .. } = wrapper;
    let ttl = ttl.as_ref().and_then(positive);
    let Some(body) = resource else { return Ok(Element::Heartbeat { name, version: own, ttl }) };
    let inner = name_of(&body, kind)?;
    let name = if name.is_empty() { inner } else { name };
    Ok(Element::Full(Resource { name, aliases, version: version.to_owned(), body: body.value, ttl }))
}

/// The time to live of a resource; none if it has none.
pub(crate) fn positive(ttl: &nuncio_api::wkt::Duration) -> Option<Duration> {
    let ttl = Duration::new(u64::try_from(ttl.seconds).ok()?, u32::try_from(ttl.nanos).ok()?);
    (!ttl.is_zero()).then_some(ttl)
}

/// The name in a resource's own message: field 1 of each of them.
fn name_of(any: &Any, kind: ResourceType) -> Result<String, Malformed> {
    if any.type_url != kind.type_url() {
        let Any { type_url, .. } = any;
        let name = Named::decode(&any.value[..]).unwrap_or_default().name;
        return Err(format!("{name}: the type URL {type_url} is not that of the response, {}", kind.type_url()));
    }
    let undecodable = |error: prost::DecodeError| format!("can't decode a {}: {error}", kind.message());
    let Named { name } = Named::decode(&any.value[..]).map_err(undecodable)?;
    Ok(name)
}

/// What the messages of all kinds begin with.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}
