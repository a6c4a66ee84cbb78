//! Signed amounts in JSON: numbers. All that the books count fits into 64 bits, with a sign or without.

use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(amount: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i128(*amount)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Signed(i64),
        Unsigned(u64),
    }
    Number::deserialize(deserializer)
        .map(|number| match number {
            Number::Signed(number) => i128::from(number),
            Number::Unsigned(number) => i128::from(number),
        })
        .map_err(de::Error::custom)
}
