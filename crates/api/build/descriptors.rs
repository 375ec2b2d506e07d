//! Where the descriptors come from: the descriptor set inside the envoy-types crate, and the few messages it lacks.

#[path = "istio.rs"]
mod istio;

use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of the descriptor set that ships in the source of the envoy-types crate, as cargo resolved it.
pub fn find_descriptor_set() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = cargo_metadata(true)
        .and_then(|text| envoy_types_manifest(&text))
        .or_else(|_| cargo_metadata(false).and_then(|text| envoy_types_manifest(&text)))?;
    let root = Path::new(&manifest).parent().ok_or("the manifest of envoy-types has no parent directory")?;
    Ok(root.join("src/generated/types.bin"))
}

fn cargo_metadata(offline: bool) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let here = std::env::var("CARGO_MANIFEST_DIR")?;
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(Path::new(&here).join("Cargo.toml"));
    if let Ok(target) = std::env::var("TARGET") {
        command.args(["--filter-platform", &target]);
    }
    if offline {
        command.arg("--offline");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn envoy_types_manifest(metadata: &str) -> Result<String, Box<dyn Error>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let found = packages.iter().find(|package| package["name"] == "envoy-types");
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    Ok(manifest.ok_or("cargo metadata does not list envoy-types")?.to_owned())
}

/// The descriptors of the set at `path`, and those of [`additions`].
pub fn load(path: &Path) -> Result<DescriptorPool, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut pool = DescriptorPool::new();
    pool.decode_file_descriptor_set(bytes.as_slice())?;
    for file in additions() {
        pool.add_file_descriptor_proto(file)?;
    }
    Ok(pool)
}

/// Messages that Envoy configurations name and that the descriptor set lacks.
fn additions() -> Vec<FileDescriptorProto> {
    ["udpa.type.v1", "xds.type.v3"].into_iter().map(typed_struct).chain([matchers()]).chain(istio::files()).collect()
}

/// `xds.type.matcher.v3` in the files that are lacking; `src/matchers.rs` has their messages.
fn matchers() -> FileDescriptorProto {
    let message = |name: &str, field: Vec<FieldDescriptorProto>| DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..DescriptorProto::default()
    };
    let many = |mut field: FieldDescriptorProto| {
        field.label = Some(Label::Repeated.into());
        field
    };
    let on_match = ".xds.type.matcher.v3.Matcher.OnMatch";
    let range = message(
        "IPRangeMatcher",
        vec![
            many(field("ranges", 1, Type::Message, Some(".xds.core.v3.CidrRange"))),
            field("on_match", 2, Type::Message, Some(on_match)),
            field("exclusive", 3, Type::Bool, None),
        ],
    );
    let ranges = Some(".xds.type.matcher.v3.IPMatcher.IPRangeMatcher");
    let mut address = message("IPMatcher", vec![many(field("range_matchers", 1, Type::Message, ranges))]);
    address.nested_type = vec![range];
    let expression = field("expr_match", 1, Type::Message, Some(".xds.type.v3.CelExpression"));
    FileDescriptorProto {
        name: Some("nuncio/xds/type/matcher/v3/matchers.proto".to_owned()),
        package: Some("xds.type.matcher.v3".to_owned()),
        dependency: ["xds/core/v3/cidr.proto", "xds/type/matcher/v3/matcher.proto", "xds/type/v3/cel.proto"]
            .map(str::to_owned)
            .to_vec(),
        message_type: vec![
            message("CelMatcher", vec![expression, field("description", 2, Type::String, None)]),
            message("HttpAttributesCelMatchInput", Vec::new()),
            address,
        ],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

/// `TypedStruct`: a message whose fields are given as a `Struct`, and whose type by URL.
fn typed_struct(package: &str) -> FileDescriptorProto {
    let type_url = field("type_url", 1, Type::String, None);
    let value = field("value", 2, Type::Message, Some(".google.protobuf.Struct"));
    FileDescriptorProto {
        name: Some(format!("nuncio/{}/typed_struct.proto", package.replace('.', "/"))),
        package: Some(package.to_owned()),
        dependency: vec!["google/protobuf/struct.proto".to_owned()],
        message_type: vec![DescriptorProto {
            name: Some("TypedStruct".to_owned()),
            field: vec![type_url, value],
            ..DescriptorProto::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn field(name: &str, number: i32, kind: Type, type_name: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(str::to_owned),
        ..FieldDescriptorProto::default()
    }
}
