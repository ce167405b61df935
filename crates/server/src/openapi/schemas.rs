//! The schemas and examples of bodies and parameters, derived from the types of `countersign_protocol`.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Where a document keeps its schemas.
const COMPONENTS: &str = "/components/schemas";

/// Describes a type to a generator, which keeps what it has seen.
pub(crate) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A generator: for components, which are described as they are written, so that what need not be written is not required; or for
/// parameters, which have no component and are read only.
pub(super) fn generator(is_inline: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12();
    let settings = if is_inline {
        settings.for_deserialize()
    } else {
        settings.for_serialize()
    };
    let settings = settings.with(|settings| {
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
        settings.inline_subschemas = is_inline;
    });
    settings
        .with_transform(RecursiveTransform(tidy))
        .into_generator()
}

/// The schema of a type that is no component.
pub(super) fn inline(describe: Describe) -> Value {
    let mut schema = describe(&mut generator(true));
    // A parameter that may be absent is never null.
    let not_null = |schema: &mut Schema| {
        let kind = schema.get("type").and_then(|kind| kind.get(0)).cloned();
        kind.map(|kind| schema.insert("type".to_owned(), kind));
    };
    RecursiveTransform(tidy).transform(&mut schema);
    RecursiveTransform(not_null).transform(&mut schema);
    schema.to_value()
}

/// Closes objects, whose members are all known, and puts each description on one line.
fn tidy(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if schema.get("properties").is_some() && schema.get("type").is_some() {
        let is_open = schema.remove("additionalProperties") == Some(Value::Bool(true));
        if !is_open {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
    }
}

/// Removes the keywords that are only for this module and its siblings.
pub(super) fn plain(components: &mut Map<String, Value>) {
    let mut plain = RecursiveTransform(|schema: &mut Schema| {
        if let Some(members) = schema.as_object_mut() {
            members.retain(|name, _| !name.starts_with("x-"));
        }
    });
    for schema in components.values_mut() {
        if let Ok(schema) = schema.try_into() {
            plain.transform(schema);
        }
    }
}

/// The members of an object, or the parameters of a query.
pub(super) fn members(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
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

/// The name of the component that a schema refers to.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// The schema itself, where it is a reference to a component.
pub(super) fn resolved<'a>(schema: &'a Value, components: &'a Map<String, Value>) -> &'a Value {
    let component = referred(schema).and_then(|name| components.get(name));
    component.unwrap_or(schema)
}

/// A parameter, whose example is that of its schema.
pub(super) fn parameter(place: &str, name: &str, is_required: bool, schema: &Value) -> Value {
    let mut schema = schema.clone();
    let mut take = |member: &str| {
        schema
            .as_object_mut()
            .and_then(|schema| schema.remove(member))
    };
    let (description, examples) = (take("description"), take("examples"));
    let mut parameter = json!({
        "name": name, "in": place, "required": is_required, "description": description, "schema": schema,
    });
    if let Some(example) = examples.as_ref().and_then(|examples| examples.get(0)) {
        set(&mut parameter, "example", example.clone());
    }
    parameter
}

/// An example of a schema, made of those of its members. `changes` replaces some of them, and picks among several schemas.
pub(super) fn example(schema: &Value, components: &Map<String, Value>, changes: &Value) -> Value {
    let schema = resolved(schema, components);
    let given = ["/const", "/examples/0", "/default", "/enum/0"].map(|path| schema.pointer(path));
    let given = given.into_iter().flatten().next();
    if let Some(choices) = schema["oneOf"].as_array() {
        let mut made = choices
            .iter()
            .map(|choice| example(choice, components, changes));
        return made
            .find(|made| made["kind"] == changes["kind"])
            .unwrap_or_default();
    }
    if schema.get("const").is_none() && !changes.is_null() && !schema["properties"].is_object() {
        return changes.clone();
    }
    if let (Some(properties), None) = (schema["properties"].as_object(), given) {
        let member = |(name, member): (&String, &Value)| {
            let is_null = changes.get(name) == Some(&Value::Null);
            let value = if is_null {
                Value::Null
            } else {
                example(member, components, &changes[name])
            };
            (name.clone(), value)
        };
        let mut made: Map<String, Value> = properties.iter().map(member).collect();
        let count = made.values().find_map(Value::as_array).map(Vec::len);
        if let (Some(total), Some(count)) = (made.get_mut("total_count"), count) {
            *total = count.into();
        }
        return made.into();
    }
    match (given, schema["type"].as_str()) {
        (Some(given), _) => given.clone(),
        (None, Some("array")) => {
            let items = resolved(&schema["items"], components);
            let others = items["x-others"].as_array().into_iter().flatten();
            let all = std::iter::once(&Value::Null).chain(others);
            all.map(|changes| example(items, components, changes))
                .collect()
        }
        (None, Some("boolean")) => false.into(),
        (None, _) => Value::Null,
    }
}
