//! `docs/reference/grpc.md`, made from the descriptors and the declared operations.
//!
//! `WEIR_UPDATE=1 cargo test -p control-plane --test grpc` writes the page.

use std::{collections::HashMap, fmt::Write as _, path::PathBuf};

use control_plane::access::{Need, table};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::support::grpc;

const HEAD: &str = "\
# gRPC

<!-- Generated from proto/weir/v1/; WEIR_UPDATE=1 cargo test -p control-plane --test grpc writes it. -->

The control plane serves gRPC on its admin port, beside REST and the dashboard. The services do the same as the
[REST API](api.md). Clients need no file: server reflection describes the services.

```text
buf curl --protocol grpc --http2-prior-knowledge --list-methods http://127.0.0.1:8081
buf curl --protocol grpc --http2-prior-knowledge http://127.0.0.1:8081/weir.v1.Admin/CreateBackend \\
    --data '{\"backend\": {\"url\": \"http://127.0.0.1:8085\", \"weight\": 2}}'
grpcurl -plaintext -d '{\"name\": \"books\", \"config\": {\"strategy\": \"least_connections\"}}' \\
    127.0.0.1:8081 weir.v1.Admin/PutPool
```

- **Authentication.** Metadata `authorization: Bearer TOKEN`. On loopback no token is needed until the first one is created.
  See [access](access.md).
- **Deadlines, health and reflection** are those of gRPC: `grpc.health.v1` and `grpc.reflection.v1` need no token.
- **Design.** [Decision 041](../decisions/041-grpc.md) gives the reasons.
";

#[test]
fn the_committed_reference_is_the_generated_one() {
    let generated = page();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/grpc.md");
    if std::env::var_os("WEIR_UPDATE").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == generated,
        "docs/reference/grpc.md is not what proto/ says; write it with \
         WEIR_UPDATE=1 cargo test -p control-plane --test grpc"
    );
}

fn page() -> String {
    let files = grpc::descriptors().file;
    let mut page = HEAD.to_owned();
    // The two services first, then what they share with the nodes; without what only the nodes use.
    let of_nodes = ["nodes", "enrollment", "tail"].map(|name| format!("weir/v1/{name}.proto"));
    let is_public = |file: &&FileDescriptorProto| {
        file.name().starts_with("weir/v1/") && !of_nodes.iter().any(|name| name == file.name())
    };
    let mut files: Vec<&FileDescriptorProto> = files.iter().filter(is_public).collect();
    files.sort_by_key(|file| (file.service.is_empty(), file.name()));
    for file in &files {
        push_services(&mut page, file);
    }
    page.push_str("\n## Messages and enums\n");
    for file in files {
        let comments = Comments::of(file);
        for (i, message) in file.message_type.iter().enumerate() {
            push_message(&mut page, message, &comments, i);
        }
        for (i, values) in file.enum_type.iter().enumerate() {
            push_enum(&mut page, values, &comments, i);
        }
    }
    page
}

/// The comments of a file, by the location of the described item.
struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comment =
            |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
        Self(locations.map(|at| (at.path.clone(), comment(at.leading_comments()))).collect())
    }

    fn text(&self, path: &[usize]) -> &str {
        let path: Vec<i32> = path.iter().map(|part| i32::try_from(*part).unwrap()).collect();
        self.0.get(&path).map_or("", String::as_str)
    }

    fn line(&self, path: &[usize]) -> String {
        self.text(path).replace('\n', " ").replace('|', "\\|")
    }
}

fn push_services(page: &mut String, file: &FileDescriptorProto) {
    let comments = Comments::of(file);
    for (i, service) in file.service.iter().enumerate() {
        let _ = write!(page, "\n## {}\n\n{}\n\n", service.name(), comments.text(&[6, i]));
        page.push_str("| RPC | role | REST | |\n|---|---|---|---|\n");
        for (j, method) in service.method.iter().enumerate() {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let Need::Role(role) = table::grpc(&path).need else { panic!("{path} needs no token") };
            let operation = table::operation(&path).unwrap();
            let summary = operation.summary.trim().lines().next().unwrap();
            let comment = Some(comments.line(&[6, i, 2, j])).filter(|comment| !comment.is_empty());
            let stream = if method.server_streaming() { "stream of " } else { "" };
            let _ = writeln!(
                page,
                "| `{}` | {role} | `{} {}` | {} {} → {stream}{} |",
                method.name(),
                operation.method.as_str(),
                operation.path,
                comment.as_deref().unwrap_or(summary),
                link(method.input_type()),
                link(method.output_type()),
            );
        }
    }
}

fn push_message(page: &mut String, message: &DescriptorProto, comments: &Comments, i: usize) {
    let _ = write!(page, "\n### {}\n\n", message.name());
    let about = comments.text(&[4, i]);
    if !about.is_empty() {
        let _ = write!(page, "{about}\n\n");
    }
    if message.field.is_empty() {
        page.push_str("No fields.\n");
        return;
    }
    page.push_str("| field | type | |\n|---|---|---|\n");
    for (j, field) in message.field.iter().enumerate() {
        let comment = comments.line(&[4, i, 2, j]);
        let _ = writeln!(page, "| `{}` | {} | {comment} |", field.name(), type_of(message, field));
    }
}

fn push_enum(page: &mut String, values: &EnumDescriptorProto, comments: &Comments, i: usize) {
    let _ = write!(page, "\n### {}\n\n", values.name());
    let about = comments.text(&[5, i]);
    if !about.is_empty() {
        let _ = write!(page, "{about}\n\n");
    }
    page.push_str("| value | |\n|---|---|\n");
    for (j, value) in values.value.iter().enumerate() {
        let _ = writeln!(page, "| `{}` | {} |", value.name(), comments.line(&[5, i, 2, j]));
    }
}

fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry =
        message.nested_type.iter().find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
    if let Some(entry) = entry {
        let [key, value] = entry.field.as_slice() else { panic!("{entry:?}") };
        return format!("map of {} to {}", type_of(entry, key), type_of(entry, value));
    }
    let name = match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("list of {name}"),
        _ if field.proto3_optional() => format!("optional {name}"),
        _ => name,
    }
}

/// A link to a type of this page; the types of `google.protobuf` are known.
fn link(full: &str) -> String {
    let name = full.rsplit('.').next().unwrap();
    if full.starts_with(".google.") {
        return format!("`{name}`");
    }
    format!("[{name}](#{})", name.to_lowercase())
}
