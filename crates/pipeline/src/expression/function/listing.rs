//! The functions for people: what each takes, and a line about it.

/// A function of expressions.
///
/// ```
/// let functions = perennial_pipeline::functions();
/// let upper = functions.iter().find(|entry| entry.name == "upper").expect("there is such a function");
/// println!("{}({}): {}", upper.name, upper.arguments, upper.does);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FunctionEntry {
    /// Its name.
    pub name: &'static str,
    /// What it takes, for example `list, [number]`.
    pub arguments: String,
    /// One line about it.
    pub does: &'static str,
}

/// All functions, by group.
///
/// ```
/// assert!(perennial_pipeline::functions().iter().any(|entry| entry.name == "length"));
/// ```
pub fn functions() -> Vec<FunctionEntry> {
    let entry = |function: &super::Function| FunctionEntry {
        name: function.name,
        arguments: arguments(function),
        does: does(function.name).unwrap_or_default(),
    };
    super::all().map(entry).collect()
}

fn arguments(function: &super::Function) -> String {
    let each = function.takes.iter().enumerate().map(|(place, takes)| {
        let word = match takes {
            super::Takes::Any => "value",
            super::Takes::Number => "number",
            super::Takes::Text => "text",
            super::Takes::Pattern => "pattern",
            super::Takes::List => "list",
            super::Takes::Object => "object",
            super::Takes::Element => "expression",
        };
        if place < function.required { word.to_owned() } else { format!("[{word}]") }
    });
    let mut words: Vec<String> = each.collect();
    if function.many {
        words.push("…".to_owned());
    }
    words.join(", ")
}

fn does(name: &str) -> Option<&'static str> {
    DOES.iter().find(|(function, _)| *function == name).map(|(_, does)| *does)
}

const DOES: &[(&str, &str)] = &[
    ("add", "the sum of two numbers"),
    ("subtract", "the first less the second"),
    ("multiply", "the product of two numbers"),
    ("divide", "the first by the second; 0 where that is 0"),
    ("min", "the smallest of the numbers, or of one list; null of none"),
    ("max", "the largest of the numbers, or of one list; null of none"),
    ("sum", "the sum of the numbers, or of one list"),
    ("average", "the mean of the numbers, or of one list; 0 of none"),
    ("abs", "the number without its sign"),
    ("round", "rounded, half away from zero, to so many digits"),
    ("floor", "the next whole number below"),
    ("ceil", "the next whole number above"),
    ("sqrt", "the square root"),
    ("pow", "the first to the power of the second"),
    ("between", "whether the first lies between the others, both included"),
    ("upper", "in capital letters"),
    ("lower", "in small letters"),
    ("trim", "without space at both ends"),
    ("substring", "from this character on, so many of them"),
    ("replace", "with every occurrence of the second replaced by the third"),
    ("split", "the parts between the separators, as a list"),
    ("join", "the elements as one text, the separator between them"),
    ("contains", "whether a text, list or object has this part, element or key"),
    ("matches", "whether the regular expression is found in it"),
    ("starts_with", "whether it begins so"),
    ("ends_with", "whether it ends so"),
    ("slug", "as a name for addresses: small letters, digits and hyphens"),
    ("path", "as the name of a file"),
    ("truncate", "at most so many characters"),
    ("indent", "with so many spaces before each line"),
    ("lines", "its lines, as a list"),
    ("bullet", "one point a line"),
    ("quote", "as a quotation"),
    ("hash", "the SHA-256 of the text or of the canonical JSON, in hexadecimal"),
    ("uuid", "a unique id, the same on every attempt"),
    ("to_string", "as text"),
    ("to_number", "as a number"),
    ("from_json", "the value that a JSON text writes"),
    ("to_json", "as compact JSON"),
    ("json", "as JSON, indented by so many spaces"),
    ("first", "the first element"),
    ("last", "the last element"),
    ("append", "the list with one more element"),
    ("concat", "the lists, one after the other"),
    ("flatten", "the lists in it taken apart, so many levels deep"),
    ("unique", "each value once"),
    ("reverse", "from the end to the beginning"),
    ("slice", "from this place on, so many elements"),
    ("range", "whole numbers from the first to before the second"),
    ("zip", "pairs of the elements at the same place"),
    ("any", "whether an element meets the condition"),
    ("all", "whether every element meets the condition"),
    ("count", "how many elements there are, or meet the condition"),
    ("filter", "the elements that meet the condition"),
    ("map", "what the expression gives for each element"),
    ("sort_by", "in the order of what the expression gives; `desc` turns it"),
    ("group_by", "lists of elements, by what the expression gives"),
    ("length", "how many characters, elements or keys; 0 of nothing"),
    ("keys", "its keys, as a list"),
    ("values", "its values, as a list"),
    ("entries", "pairs of key and value, as a list"),
    ("merge", "the objects as one; the later wins"),
    ("get", "the value at a path, else the default"),
    ("has", "whether it has this key or path"),
    ("is_empty", "whether it is missing, null or without content"),
    ("type_of", "the name of its type"),
    ("default", "the value, or the second where it is missing"),
    ("coalesce", "the first that is not missing"),
    ("now", "the instant of the attempt"),
    ("date", "an instant, from a text, in a format"),
    ("format_date", "an instant in this format"),
    ("days", "so many days, in seconds"),
    ("hours", "so many hours, in seconds"),
    ("minutes", "so many minutes, in seconds"),
    ("seconds", "so many seconds"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_its_line_and_no_line_is_left_over() {
        let names: Vec<&str> = functions().iter().map(|function| function.name).collect();
        let without: Vec<_> = names.iter().filter(|name| does(name).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
        let strange: Vec<_> = DOES.iter().filter(|(name, _)| !names.contains(name)).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}
