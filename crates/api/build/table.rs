//! The layout of the schema table. `src/schema.rs` is its reader, and repeats the layout from the reader's side.
//!
//! ```text
//! header    magic, then the count and the offset of each section
//! messages  sorted by full name: name, length | flags, first field, field count | oneof count, first oneof
//! fields    sorted by number within a message: number, name, length | kind | oneof, flags, type, rules
//! order     one u16 per field: the fields of a message sorted by name
//! oneofs    name, length | required
//! enums     sorted by full name: name, length, first value, value count
//! values    sorted by number within an enum: number, name, length | deprecated
//! blob      names, and validation rules in their own wire form, each behind a u16 length
//! ```
//! Every number is a little-endian u32 unless said otherwise; a name is an offset into the blob.

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::Type;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};
use std::collections::HashMap;
use std::error::Error;

pub const MAGIC: u32 = u32::from_le_bytes(*b"NSC1");
const NONE: u32 = u32::MAX;

const MESSAGE_MAP_ENTRY: u32 = 1;
const MESSAGE_DEPRECATED: u32 = 1 << 1;
const MESSAGE_UNCHECKED: u32 = 1 << 2;
const MESSAGE_RULES_REACHABLE: u32 = 1 << 3;

const FIELD_LIST: u32 = 1;
const FIELD_MAP: u32 = 1 << 1;
const FIELD_PRESENCE: u32 = 1 << 2;
const FIELD_PACKED: u32 = 1 << 3;
const FIELD_DEPRECATED: u32 = 1 << 4;
const FIELD_DISALLOWED: u32 = 1 << 5;
const FIELD_SENSITIVE: u32 = 1 << 6;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The table of everything in `pool`.
pub fn write(pool: &DescriptorPool) -> Fallible<Vec<u8>> {
    let mut messages: Vec<_> = pool.all_messages().filter(|message| wanted(message.full_name())).collect();
    messages.sort_by(|a, b| a.full_name().as_bytes().cmp(b.full_name().as_bytes()));
    let mut enums: Vec<_> = pool.all_enums().filter(|it| wanted(it.full_name())).collect();
    enums.sort_by(|a, b| a.full_name().as_bytes().cmp(b.full_name().as_bytes()));
    let message_index = messages.iter().enumerate().map(|(i, m)| (m.full_name().to_owned(), i as u32)).collect();
    let enum_index = enums.iter().enumerate().map(|(i, e)| (e.full_name().to_owned(), i as u32)).collect();
    let mut table = Table { message_index, enum_index, options: Options::find(pool), ..Table::default() };
    table.blob.push(0);
    let reachable = rules_reachable(&messages, &table.options);
    for (message, reachable) in messages.iter().zip(reachable) {
        table.message(message, reachable)?;
    }
    for descriptor in &enums {
        table.enumeration(descriptor);
    }
    Ok(table.finish())
}

/// Descriptors that describe descriptors are never configuration.
fn wanted(name: &str) -> bool {
    const DESCRIPTORS: [&str; 6] = ["File", "DescriptorProto", "Message", "Enum", "Service", "Uninterpreted"];
    let own = name.strip_prefix("google.protobuf.").unwrap_or_default();
    let meta = own.contains("Descriptor")
        || own.ends_with("Options")
        || own.contains("Options.")
        || own.contains("FeatureSet");
    let described = DESCRIPTORS.iter().any(|prefix| own.starts_with(prefix)) && !own.starts_with("Empty");
    !(meta || (described && own != "EnumValue"))
}

#[derive(Default)]
struct Options {
    rules: Option<prost_reflect::ExtensionDescriptor>,
    required: Option<prost_reflect::ExtensionDescriptor>,
    disabled: Option<prost_reflect::ExtensionDescriptor>,
    ignored: Option<prost_reflect::ExtensionDescriptor>,
    disallowed: Option<prost_reflect::ExtensionDescriptor>,
    sensitive: Option<prost_reflect::ExtensionDescriptor>,
}

impl Options {
    fn find(pool: &DescriptorPool) -> Self {
        Self {
            rules: pool.get_extension_by_name("validate.rules"),
            required: pool.get_extension_by_name("validate.required"),
            disabled: pool.get_extension_by_name("validate.disabled"),
            ignored: pool.get_extension_by_name("validate.ignored"),
            disallowed: pool.get_extension_by_name("envoy.annotations.disallowed_by_default"),
            sensitive: pool.get_extension_by_name("udpa.annotations.sensitive"),
        }
    }
}

fn is_set(options: &DynamicMessage, extension: &Option<prost_reflect::ExtensionDescriptor>) -> bool {
    extension.as_ref().is_some_and(|it| options.get_extension(it).as_ref() == &Value::Bool(true))
}

/// For each message, whether a validation rule can apply to it or to anything inside it.
fn rules_reachable(messages: &[MessageDescriptor], options: &Options) -> Vec<bool> {
    let index: HashMap<&str, usize> = messages.iter().enumerate().map(|(i, m)| (m.full_name(), i)).collect();
    let own = |message: &MessageDescriptor| {
        message.full_name() == "google.protobuf.Any"
            || message.fields().any(|field| options.rules.as_ref().is_some_and(|it| field.options().has_extension(it)))
            || message.oneofs().any(|oneof| is_set(&oneof.options(), &options.required))
    };
    let mut reachable: Vec<bool> = messages.iter().map(own).collect();
    loop {
        let mut changed = false;
        for (i, message) in messages.iter().enumerate() {
            let inside = |field: FieldDescriptor| match field.kind() {
                Kind::Message(inner) => index.get(inner.full_name()).is_some_and(|&at| reachable[at]),
                _ => false,
            };
            if !reachable[i] && message.fields().any(inside) {
                reachable[i] = true;
                changed = true;
            }
        }
        if !changed {
            return reachable;
        }
    }
}

#[derive(Default)]
struct Table {
    message_index: HashMap<String, u32>,
    enum_index: HashMap<String, u32>,
    options: Options,
    names: HashMap<Vec<u8>, u32>,
    messages: Vec<u32>,
    fields: Vec<u32>,
    order: Vec<u16>,
    oneofs: Vec<u32>,
    enums: Vec<u32>,
    values: Vec<u32>,
    blob: Vec<u8>,
}

const MESSAGE_WORDS: usize = 5;
const FIELD_WORDS: usize = 6;
const ONEOF_WORDS: usize = 2;
const ENUM_WORDS: usize = 4;
const VALUE_WORDS: usize = 3;

impl Table {
    fn message(&mut self, message: &MessageDescriptor, reachable: bool) -> Fallible<()> {
        let name = self.intern(message.full_name().as_bytes());
        let mut flags = 0;
        let options = message.options();
        flags |= MESSAGE_MAP_ENTRY * u32::from(message.is_map_entry());
        let deprecated = message.descriptor_proto().options.as_ref().and_then(|it| it.deprecated).unwrap_or(false);
        flags |= MESSAGE_DEPRECATED * u32::from(deprecated);
        let unchecked = is_set(&options, &self.options.disabled) || is_set(&options, &self.options.ignored);
        flags |= MESSAGE_UNCHECKED * u32::from(unchecked);
        flags |= MESSAGE_RULES_REACHABLE * u32::from(reachable);
        let first_field = self.fields.len() / FIELD_WORDS;
        let first_oneof = self.oneofs.len() / ONEOF_WORDS;
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        for field in &fields {
            let oneof = field.containing_oneof().and_then(|own| oneofs.iter().position(|it| *it == own));
            self.field(field, oneof)?;
        }
        let mut order: Vec<u16> = (0..fields.len() as u16).collect();
        order.sort_by(|a, b| fields[usize::from(*a)].name().as_bytes().cmp(fields[usize::from(*b)].name().as_bytes()));
        self.order.extend(order);
        for oneof in &oneofs {
            let required = is_set(&oneof.options(), &self.options.required);
            let name = self.intern(oneof.name().as_bytes());
            self.oneofs.extend([name, oneof.name().len() as u32 | u32::from(required) << 16]);
        }
        let counts = fields.len() as u32 | (oneofs.len() as u32) << 16;
        let length = message.full_name().len() as u32 | flags << 16;
        self.messages.extend([name, length, first_field as u32, counts, first_oneof as u32]);
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, oneof: Option<usize>) -> Fallible<()> {
        let proto = field.field_descriptor_proto();
        let kind = proto.r#type() as u32;
        if proto.r#type() == Type::Group {
            return Err(format!("{}: groups are not supported", field.full_name()).into());
        }
        if field.json_name() != lower_camel(field.name()) {
            return Err(format!("{}: has the custom JSON name {}", field.full_name(), field.json_name()).into());
        }
        let name = self.intern(field.name().as_bytes());
        let type_ref = match field.kind() {
            Kind::Message(inner) => self.message_index.get(inner.full_name()).copied().unwrap_or(NONE),
            Kind::Enum(inner) => self.enum_index.get(inner.full_name()).copied().unwrap_or(NONE),
            _ => NONE,
        };
        let options = field.options();
        let mut flags = 0;
        flags |= FIELD_LIST * u32::from(field.is_list());
        flags |= FIELD_MAP * u32::from(field.is_map());
        flags |= FIELD_PRESENCE * u32::from(field.supports_presence());
        flags |= FIELD_PACKED * u32::from(field.is_packed());
        flags |= FIELD_DEPRECATED * u32::from(proto.options.as_ref().and_then(|it| it.deprecated).unwrap_or(false));
        flags |= FIELD_DISALLOWED * u32::from(is_set(&options, &self.options.disallowed));
        flags |= FIELD_SENSITIVE * u32::from(is_set(&options, &self.options.sensitive));
        let rules = match &self.options.rules {
            Some(extension) if options.has_extension(extension) => match options.get_extension(extension).as_ref() {
                Value::Message(rules) => self.rules(&rules.encode_to_vec()),
                _ => 0,
            },
            _ => 0,
        };
        let oneof = oneof.map_or(0xff, |it| it as u32);
        let shape = field.name().len() as u32 | kind << 8 | oneof << 16;
        self.fields.extend([field.number(), name, shape, flags, type_ref, rules]);
        Ok(())
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor) {
        let name = self.intern(descriptor.full_name().as_bytes());
        let first = self.values.len() / VALUE_WORDS;
        let mut values: Vec<_> = descriptor.values().collect();
        values.sort_by_key(|value| value.number());
        for value in &values {
            let options = value.enum_value_descriptor_proto().options.as_ref();
            let deprecated = options.and_then(|it| it.deprecated).unwrap_or(false);
            let name = self.intern(value.name().as_bytes());
            let length = value.name().len() as u32 | u32::from(deprecated) << 16;
            self.values.extend([value.number() as u32, name, length]);
        }
        let length = descriptor.full_name().len() as u32;
        self.enums.extend([name, length, first as u32, values.len() as u32]);
    }

    /// Stores `bytes` once, however often it occurs.
    fn intern(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&at) = self.names.get(bytes) {
            return at;
        }
        let at = self.blob.len() as u32;
        self.blob.extend_from_slice(bytes);
        self.names.insert(bytes.to_vec(), at);
        at
    }

    fn rules(&mut self, wire: &[u8]) -> u32 {
        let mut entry = (wire.len() as u16).to_le_bytes().to_vec();
        entry.extend_from_slice(wire);
        self.intern(&entry)
    }

    fn finish(self) -> Vec<u8> {
        let order: Vec<u8> = self.order.iter().flat_map(|it| it.to_le_bytes()).collect();
        let words = |words: &[u32]| words.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
        let sections = [
            (self.messages.len() / MESSAGE_WORDS, words(&self.messages)),
            (self.fields.len() / FIELD_WORDS, words(&self.fields)),
            (self.order.len(), order),
            (self.oneofs.len() / ONEOF_WORDS, words(&self.oneofs)),
            (self.enums.len() / ENUM_WORDS, words(&self.enums)),
            (self.values.len() / VALUE_WORDS, words(&self.values)),
            (self.blob.len(), self.blob),
        ];
        let mut out = MAGIC.to_le_bytes().to_vec();
        let mut at = 4 + sections.len() * 8;
        for (count, bytes) in &sections {
            out.extend((*count as u32).to_le_bytes());
            out.extend((at as u32).to_le_bytes());
            at += bytes.len();
        }
        for (_, bytes) in sections {
            out.extend(bytes);
        }
        out
    }
}

/// The JSON name that protobuf derives from a field's name.
fn lower_camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            out.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    out
}
