//! The schemas and examples of bodies, derived from the types of `countersign_protocol`.

use std::collections::BTreeSet;

use countersign_protocol::schema::ONLY_IN;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Where a document keeps its schemas.
const COMPONENTS: &str = "/components/schemas";

/// A generator for the bodies, as they are written: what need not be written is not required.
pub(super) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|settings| {
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

/// Sets a member of an object.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#{COMPONENTS}/{name}") })
}

/// The components that the generator has collected, as the document shows them.
pub(super) fn components(mut generator: SchemaGenerator) -> Map<String, Value> {
    let mut components = Map::new();
    for (name, mut schema) in generator.take_definitions(true) {
        tidy(&mut schema);
        components.extend(shapes(&name, &schema));
    }
    components
}

/// A type that has members in some of its bodies only has a schema for each: with those that stand in it.
fn shapes(name: &str, schema: &Value) -> Vec<(String, Value)> {
    let only_in = |member: &Value| {
        member
            .get(ONLY_IN)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let names: BTreeSet<String> = properties
        .values()
        .filter_map(only_in)
        .chain([name.to_owned()])
        .collect();
    let shape = |name: String| {
        let mut shape = schema.clone();
        for (member, mut value) in properties.clone() {
            let Some(only) = only_in(&value) else {
                continue;
            };
            let members = shape.get_mut("properties").and_then(Value::as_object_mut);
            let members = members.expect("an object has members");
            if only == name {
                value.as_object_mut().map(|value| value.remove(ONLY_IN));
                members.insert(member.clone(), value);
                let required = shape.get_mut("required").and_then(Value::as_array_mut);
                if let Some(required) = required {
                    required.push(member.into());
                }
            } else {
                members.remove(&member);
            }
        }
        (name, shape)
    };
    names.into_iter().map(shape).collect()
}

/// Closes objects, whose members are all known, and puts each description on one line.
fn tidy(schema: &mut Value) {
    let Value::Object(members) = schema else {
        if let Value::Array(schemas) = schema {
            schemas.iter_mut().for_each(tidy);
        }
        return;
    };
    if let Some(Value::String(text)) = members.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    let is_object = members
        .get("type")
        .is_some_and(|kind| kind.to_string().contains("\"object\""));
    if is_object && members.contains_key("properties") {
        let is_open = members.remove("additionalProperties") == Some(Value::Bool(true));
        if !is_open {
            members.insert("additionalProperties".to_owned(), false.into());
        }
    }
    for (name, member) in members {
        if !matches!(name.as_str(), "examples" | "default" | "const" | "enum") {
            tidy(member);
        }
    }
}

/// An example of a schema, made of those of its members. `changes` replaces some of them, and picks among several schemas.
pub(super) fn example(schema: &Value, components: &Map<String, Value>, changes: &Value) -> Value {
    let component = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    if let Some(target) = component.and_then(|name| components.get(name)) {
        return example(target, components, changes);
    }
    if schema.get("default") == Some(&Value::Null) {
        return Value::Null;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let made = choices
            .iter()
            .map(|choice| example(choice, components, &Value::Null));
        let fits = |made: &Value| {
            let mut wanted = changes.as_object().into_iter().flatten();
            wanted.all(|(name, value)| made.get(name) == Some(value))
        };
        return made.into_iter().find(fits).unwrap_or_default();
    }
    if let Some(properties) = schema["properties"].as_object() {
        let members = properties.iter().map(|(name, member)| {
            let change = changes
                .get(name)
                .filter(|change| !change.is_object() || member["$ref"].is_null());
            let value = change.cloned().unwrap_or_else(|| {
                example(
                    member,
                    components,
                    changes.get(name).unwrap_or(&Value::Null),
                )
            });
            (name.clone(), value)
        });
        return Value::Object(members.collect());
    }
    let given = ["/const", "/examples/0", "/default", "/enum/0"].map(|path| schema.pointer(path));
    if let Some(given) = given.into_iter().flatten().find(|given| !given.is_null()) {
        return given.clone();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example(&schema["items"], components, &Value::Null)]),
        Some("boolean") => false.into(),
        _ => Value::Null,
    }
}
