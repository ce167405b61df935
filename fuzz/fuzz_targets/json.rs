//! Request bodies: nothing panics; removing white space changes no value; equal values have one canonical text.
#![no_main]

use countersign_protocol::json::{Object, canonical, check, compact};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut object) = Object::parse(bytes) else {
        return;
    };
    let names: Vec<String> = object.names().map(str::to_owned).collect();
    for name in names {
        let value = object
            .take(&name)
            .expect("the object has the members that it names");
        assert!(object.take(&name).is_none(), "a member stood twice");
        if check(value).is_err() {
            continue;
        }
        let text = value.get();
        let compacted = compact(text);
        let before: Value = serde_json::from_str(text).expect("checked");
        let after: Value = serde_json::from_str(&compacted).expect("still JSON");
        assert_eq!(before, after);
        assert_eq!(compact(&compacted), compacted);
        let one = canonical(text).expect("checked");
        assert_eq!(canonical(&compacted).expect("still JSON"), one);
        assert_eq!(canonical(&one).expect("the canonical text is JSON"), one);
    }
    assert_eq!(object.names().count(), 0);
});
