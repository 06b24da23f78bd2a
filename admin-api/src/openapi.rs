//! The OpenAPI 3.1 document, made from the declared operations and the schemas of their types.

use serde_json::{Map, Value, json};

use crate::{
    Error,
    answer::Response,
    body::RequestBody,
    endpoint::{COMMON_ERRORS, Need, Operation},
    operations::{ALL, TAGS},
    parameters, schemas,
};

/// Error statuses, the name of each one's answer, and its description.
const ERRORS: [(u16, &str, &str); 12] = [
    (400, "BadRequest", "The request is invalid; every mistake is listed."),
    (401, "Unauthorized", "A token is needed, or the given one is not valid."),
    (403, "Forbidden", "The token's role does not allow this call."),
    (404, "NotFound", "It does not exist."),
    (408, "RequestTimeout", "The body did not arrive in time."),
    (409, "Conflict", "It contradicts what is there."),
    (412, "PreconditionFailed", "`If-Match` does not name the current revision."),
    (413, "ContentTooLarge", "The body is too large."),
    (421, "MisdirectedRequest", "This control plane is not called by this host name."),
    (429, "TooManyRequests", "The caller has too many calls in progress."),
    (500, "InternalServerError", "An error of the control plane; its log has the details."),
    (503, "ServiceUnavailable", "The database cannot be written now."),
];

/// The document.
pub fn document() -> Value {
    let (mut requests, mut answers) = (schemas::requests(), schemas::answers());
    let mut paths = Map::new();
    for operation in ALL {
        let body = (operation.body)(&mut requests);
        let declared = described(operation, body, (operation.answers)(&mut answers));
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_ascii_lowercase()] = declared;
    }
    answers.subschema_for::<Error>();
    // Types of the configuration are in both; their schema is that of the configuration file.
    let mut schemas = answers.take_definitions(true);
    schemas.extend(requests.take_definitions(true));
    let tags: Vec<Value> =
        TAGS.iter().map(|tag| json!({ "name": tag.name, "description": tag.description })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Operates a Weir control plane.",
        },
        "tags": tags,
        "paths": paths,
        // On loopback no token is needed until the first one is created.
        "security": [{ "token": [] }],
        "components": {
            "schemas": schemas,
            "responses": errors(),
            "headers": {
                "ETag": {
                    "description": "The current revision, for `If-Match`.",
                    "schema": { "type": "string", "examples": ["\"7\""] },
                },
                "Location": {
                    "description": "Path of what was created.",
                    "schema": { "type": "string", "examples": ["/backends/b7"] },
                },
            },
            "parameters": {
                "IfMatch": {
                    "name": "If-Match",
                    "in": "header",
                    "description": "The `ETag` of an earlier answer. The call fails with 412 when another revision is current.",
                    "schema": { "type": "string", "examples": ["\"7\""] },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "weir_ and 64 hexadecimal digits",
                },
            },
        },
    })
}

/// The document as the text that is committed and served.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

fn described(operation: &Operation, body: Option<RequestBody>, answers: Vec<Response>) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for (place, schema) in [("path", operation.path_parameters), ("query", operation.query)] {
        for parameter in parameters::read(schema) {
            parameters.push(json!({
                "name": parameter.name,
                "in": place,
                "required": place == "path",
                "description": parameter.description,
                "schema": parameter.schema,
            }));
        }
    }
    if operation.is_change() {
        parameters.push(json!({ "$ref": "#/components/parameters/IfMatch" }));
    }
    let (summary, details) = operation.summary.trim().split_once('\n').unwrap_or((operation.summary, ""));
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag.name],
        "summary": summary.trim().trim_end_matches('.'),
        "parameters": parameters,
        "responses": responses(operation, body.is_some(), answers),
    });
    let details: Vec<&str> = details.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if !details.is_empty() {
        described["description"] = details.join(" ").into();
    }
    match operation.need {
        Need::Role(role) => described["x-weir-role"] = role.as_str().into(),
        Need::Nothing => described["security"] = json!([]),
    }
    if let Some(RequestBody { required, description, content: media }) = body {
        let mut body = json!({ "required": required, "content": content(media) });
        if !description.is_empty() {
            body["description"] = description.into();
        }
        described["requestBody"] = body;
    }
    described
}

fn content(media: Vec<(&'static str, schemars::Schema)>) -> Value {
    media.into_iter().map(|(kind, schema)| (kind.to_owned(), json!({ "schema": schema }))).collect()
}

fn responses(operation: &Operation, has_body: bool, answers: Vec<Response>) -> Value {
    let mut all = Map::new();
    for Response { status, description, has_location, content: media } in answers {
        let mut response = json!({ "description": description, "content": content(media) });
        if operation.has_etag {
            response["headers"]["ETag"] = json!({ "$ref": "#/components/headers/ETag" });
        }
        if has_location {
            response["headers"]["Location"] = json!({ "$ref": "#/components/headers/Location" });
        }
        all.insert(status.to_string(), response);
    }
    let of_body: &[u16] = if has_body { &[408, 413] } else { &[] };
    let of_change: &[u16] = if operation.is_change() { &[412] } else { &[] };
    for status in [&COMMON_ERRORS, operation.errors, of_body, of_change].concat() {
        if let Some((_, name, _)) = ERRORS.iter().find(|(known, ..)| *known == status) {
            let reference = format!("#/components/responses/{name}");
            all.insert(status.to_string(), json!({ "$ref": reference }));
        }
    }
    all.into()
}

fn errors() -> Value {
    let error = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Error" } } });
    let header = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let described = |(status, name, description): &(u16, &str, &str)| {
        let mut response = json!({ "description": description, "content": error });
        match status {
            401 => response["headers"]["WWW-Authenticate"] = header("The challenge of RFC 6750."),
            412 => response["headers"]["ETag"] = json!({ "$ref": "#/components/headers/ETag" }),
            429 => response["headers"]["Retry-After"] = header("Seconds to wait."),
            _ => {}
        }
        ((*name).to_owned(), response)
    };
    ERRORS.iter().map(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn every_declared_error_is_described() {
        let declared = ALL.iter().flat_map(|operation| operation.errors).chain(&COMMON_ERRORS);
        for status in declared {
            assert!(ERRORS.iter().any(|(known, ..)| known == status), "{status}");
        }
    }

    #[test]
    fn parameters_of_paths_are_those_that_their_types_have() {
        for operation in ALL {
            let in_path =
                operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let declared = parameters::read(operation.path_parameters);
            let declared = declared.iter().map(|parameter| parameter.name.as_str());
            assert!(in_path.eq(declared), "{}", operation.path);
        }
    }

    #[test]
    fn answers_require_what_is_always_there_and_requests_refuse_what_is_unknown() {
        let schemas = &document()["components"]["schemas"];
        let node = &schemas["Node"];
        assert!(node["required"].as_array().unwrap().contains(&"last_error".into()), "{node}");
        assert!(node.get("additionalProperties").is_none());
        assert_eq!(node["properties"]["clock_offset_ms"]["type"], json!(["integer", "null"]));
        for request in ["NewBackend", "BackendUpdate", "Pool", "PutRoute"] {
            assert_eq!(schemas[request]["additionalProperties"], false, "{request}");
        }
        assert!(!schemas["PutPool"]["required"].as_array().is_some_and(|all| all.contains(&"name".into())));
        assert_eq!(schemas["Pool"], weir_snapshot::schema::definitions(schemas::PATH)["Pool"]);
    }
}
