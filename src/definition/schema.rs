// SPDX-License-Identifier: Apache-2.0
//! The JSON Schema of definitions, made from the key table, for editors (draft 2020-12).
//!
//! It is meant to complete and explain while one types, and is looser than the checks: what it
//! refuses is wrong, what it accepts may be.

use serde_json::{Map, Value, json};

use crate::definition::keys::{Form, Key, Section, Takes};
use crate::definition::kind::Kind;
use crate::definition::value::process::RLIMITS;

/// The schema of a kind's files.
pub fn render_schema<D: Kind>() -> Value {
    let info = D::INFO;
    let mut properties = Map::new();
    for &table in info.tables {
        let members = D::all_keys().filter(|key| key.table == table);
        let members: Map<_, _> = members.map(property).collect();
        properties.insert(
            table.to_owned(),
            json!({
                "type": "object",
                "description": format!("See {}, [{table}].", info.manual),
                "additionalProperties": false,
                "properties": members,
            }),
        );
    }
    properties.extend(
        D::all_keys()
            .filter(|key| key.table.is_empty())
            .map(property),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": info.manual,
        "description": format!("{} of wharf, or a drop-in of one.", capitalised(info.noun)),
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn capitalised(noun: &str) -> String {
    let (first, rest) = noun.split_at(1);
    first.to_uppercase() + rest
}

fn property<D>(key: &Key<D>) -> (String, Value) {
    let mut schema = schema_of(&key.takes);
    if let Value::Object(schema) = &mut schema {
        let description = format!("{} Defaults to {}.", key.doc, key.default);
        schema.insert("description".to_owned(), json!(description));
    }
    (key.name.to_owned(), schema)
}

fn schema_of<D>(takes: &Takes<D>) -> Value {
    let text = json!({ "type": "string" });
    let list_of_text = json!({ "type": "array", "items": text });
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    match takes {
        Takes::Bool(_) => json!({ "type": "boolean" }),
        Takes::Integer { min, max, .. } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Takes::Choice(words, _) => json!({ "enum": words() }),
        Takes::Text(form, _) => string(form),
        Takes::Scalar(form, _) => json!({ "anyOf": [string(form), { "type": "number" }] }),
        Takes::Texts(form, _) => {
            let item = json!({ "anyOf": [string(form), { "type": "integer" }] });
            json!({ "anyOf": [string(form), { "type": "array", "items": item }] })
        }
        Takes::Command(_) | Takes::Reload(..) => json!({ "anyOf": [text, list_of_text] }),
        Takes::Map(..) => json!({ "anyOf": [
            { "type": "object", "additionalProperties": scalar },
            { "type": "array", "items": { "type": "string", "pattern": "=" } },
        ]}),
        Takes::Ulimits(_) => {
            let limit = json!({ "type": ["integer", "string"] });
            let names: Vec<_> = RLIMITS.iter().map(|(name, _)| name).collect();
            json!({
                "type": "object",
                "propertyNames": { "enum": names },
                "additionalProperties": { "anyOf": [limit, {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["soft", "hard"],
                    "properties": { "soft": limit, "hard": limit },
                }]},
            })
        }
        Takes::Hooks(_) => {
            let hook = json!({ "anyOf": [{ "type": "string", "pattern": "^/" }, {
                "type": "object",
                "additionalProperties": false,
                "required": ["path"],
                "properties": {
                    "path": { "type": "string", "pattern": "^/" },
                    "args": list_of_text,
                    "env": { "type": "array", "items": { "type": "string", "pattern": "=" } },
                    "timeout": { "type": ["string", "number"] },
                },
            }]});
            json!({ "anyOf": [hook, { "type": "array", "items": hook }] })
        }
        Takes::Directives(section, _) => json!({
            "type": "object",
            "propertyNames": { "pattern": match section {
                Section::Unit | Section::Service => "^[A-Za-z][A-Za-z0-9]*$",
                Section::Install => "^(WantedBy|RequiredBy|UpheldBy)$",
            }},
            "additionalProperties": { "anyOf": [scalar, { "type": "array", "items": scalar }] },
        }),
    }
}

fn string(form: &Form) -> Value {
    let mut schema = json!({ "type": "string", "title": form.words });
    if let (Value::Object(schema), false) = (&mut schema, form.pattern.is_empty()) {
        schema.insert("pattern".to_owned(), json!(form.pattern));
    }
    schema
}
