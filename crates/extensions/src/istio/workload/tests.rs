use super::*;
use nuncio_stream_info::FilterStateObject;

fn structure(fields: &[(&str, &str)]) -> Struct {
    fields.iter().map(|(name, value)| (*name, *value)).collect()
}

fn node() -> Struct {
    let mut metadata = structure(&[
        ("NAME", "client-7"),
        ("NAMESPACE", "app"),
        ("WORKLOAD_NAME", "client"),
        ("CLUSTER_ID", "Kubernetes"),
        ("OWNER", "kubernetes://apis/apps/v1/namespaces/app/deployments/client"),
        ("ISTIO_VERSION", "1.31.1"),
    ]);
    let labels = structure(&[("app", "client"), ("version", "v1"), ("role", "tester"), (CANONICAL_NAME, "shop")]);
    metadata.set("LABELS", Value::Struct(labels));
    metadata
}

fn labels(names: &[&str]) -> Labels {
    names.iter().map(|name| Box::from(*name)).collect()
}

#[test]
fn node_metadata_says_what_a_workload_is() {
    let workload = Workload::from_metadata(&node(), &labels(&["role", "missing"]));
    assert_eq!((&*workload.instance, &*workload.namespace, &*workload.name), ("client-7", "app", "client"));
    assert_eq!((&*workload.cluster, &*workload.app, &*workload.version), ("Kubernetes", "client", "v1"));
    assert_eq!((&*workload.canonical_name, &*workload.canonical_revision), ("shop", ""));
    assert_eq!(workload.kind, WorkloadKind::Deployment);
    assert_eq!(workload.labels, [("role".into(), "tester".into())]);
}

#[test]
fn a_node_has_the_zone_of_its_locality() {
    let locality = Locality { region: "r".into(), zone: "z".into(), ..Locality::default() };
    let facts = NodeFacts { metadata: node(), locality };
    let workload = Workload::of_node(&facts, &Labels::new());
    assert_eq!((&*workload.region, &*workload.zone), ("r", "z"));
}

#[test]
fn what_peers_are_told_is_understood_again() {
    let wanted = labels(&["role"]);
    let workload = Workload::from_metadata(&node(), &wanted);
    let bytes = workload.to_wire();
    assert_eq!(bytes, workload.to_wire());
    assert_eq!(Workload::from_wire(&bytes, &wanted), Some(workload));
    assert_eq!(Workload::from_wire(b"\x0a\xff", &wanted), None);
}

#[test]
fn endpoints_say_it_in_one_text() {
    let workload = Workload::of_endpoint("server;app;shop;v2;Kubernetes").unwrap();
    assert_eq!((&*workload.name, &*workload.namespace), ("server", "app"));
    assert_eq!((&*workload.canonical_revision, &*workload.cluster), ("v2", "Kubernetes"));
    assert_eq!(Workload::of_endpoint("server;app;shop;v2"), None);
}

#[test]
fn baggage_says_it_in_members() {
    let header = "k8s.deployment.name=client, k8s.namespace.name=app;x=y,service.name=shop,app.version=v1,foo=bar";
    let workload = Workload::of_baggage(header).unwrap();
    assert_eq!((workload.kind, &*workload.name), (WorkloadKind::Deployment, "client"));
    assert_eq!((&*workload.canonical_name, &*workload.app), ("shop", "shop"));
    assert_eq!((&*workload.canonical_revision, &*workload.version), ("v1", "v1"));
    assert_eq!(Workload::of_baggage("a=b,c"), None);
}

#[test]
fn fields_have_the_names_of_expressions() {
    let workload = Workload::from_metadata(&node(), &labels(&["role"]));
    let field = |name| match workload.field(name) {
        Some(FieldValue::Text(text)) => text.into_owned(),
        _ => String::new(),
    };
    assert_eq!(field("workload"), "client");
    assert_eq!(field("type"), "deployment");
    assert_eq!(field("labels[]role"), "tester");
    assert_eq!(field("revision"), "");
    assert_eq!(
        workload.to_plain().unwrap(),
        "type=deployment,workload=client,name=client-7,cluster=Kubernetes,namespace=app,service=shop,app=client,\
         version=v1,labels[]role=tester"
    );
}

#[test]
fn owners_name_kinds() {
    for (owner, workload, kind) in [
        ("kubernetes://apis/apps/v1/namespaces/a/jobs/w", "w", WorkloadKind::Job),
        ("kubernetes://apis/apps/v1/namespaces/a/cronjobs/w", "w", WorkloadKind::CronJob),
        ("kubernetes://apis/apps/v1/namespaces/a/pods/w", "w", WorkloadKind::Pod),
        ("kubernetes://apis/apps/v1/namespaces/a/dragons/w", "w", WorkloadKind::Unknown),
        ("", "w", WorkloadKind::Unknown),
        ("ü/", "", WorkloadKind::Unknown),
    ] {
        assert_eq!(WorkloadKind::of_owner(owner, workload), kind, "{owner}");
    }
}
