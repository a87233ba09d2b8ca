//! What is written for SQLite, as PostgreSQL reads it. Pure functions of texts.
//!
//! Statements: `?1` becomes `$1`. A comment `/*lock …*/` or `/*skip …*/` becomes its text where the
//! option is on; elsewhere it stays what it is for SQLite, a comment.
//!
//! Steps of the schema: the same tables with 64-bit integers, texts that compare byte by byte, and what
//! SQLite has without saying so: an `INTEGER PRIMARY KEY` that numbers itself, and a `rowid` where
//! the table has neither that nor a key instead of it. A step that copies a table into a new one
//! would begin such numbers again: it says in a comment `/*server …*/`, which is a statement there, where they go on. A statement
//! behind a comment `/*file*/` is for files alone: a server alters in place what there has to be built anew.

/// Before a statement that a server has no need of.
const FILE: &str = "/*file*/";

/// What a text has on PostgreSQL in addition, by option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Locks {
    /// Rows that are going to be changed are locked when they are read.
    pub(super) rows: bool,
    /// Rows that somebody else has locked are passed over where that is harmless.
    pub(super) skip: bool,
}

/// `sql` with PostgreSQL's parameters and the parts that `locks` turns on.
pub(super) fn statement(sql: &str, locks: Locks) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    for token in tokens(sql) {
        match token.strip_prefix('?') {
            Some(number) => {
                text.push('$');
                text.push_str(number);
            }
            None => match optional(token, locks) {
                Some(part) => {
                    text.push(' ');
                    text.push_str(part);
                }
                None => text.push_str(token),
            },
        }
    }
    text
}

/// The table that `sql` changes, when it reads no other one: such changes can be made together.
pub(super) fn changes_only(sql: &str) -> Option<&str> {
    if sql.contains("SELECT") {
        return None;
    }
    let mut words = sql.split_ascii_whitespace();
    match (words.next()?, words.next()?) {
        ("INSERT", "INTO") => words.next(),
        ("UPDATE", table) => Some(table),
        _ => None,
    }
}

/// One statement of several changes, given as their texts, how many parameters each has, and whether it must change
/// something: where one does not, the whole fails with a division by zero.
pub(super) fn together(changes: &[(String, usize, bool)]) -> String {
    if let [(text, _, false)] = changes {
        return text.clone();
    }
    let (mut parts, mut counts, mut before) = (Vec::new(), Vec::new(), 0);
    for (place, (text, params, must)) in changes.iter().enumerate() {
        parts.push(format!("c{place} AS ({} RETURNING 1)", renumbered(text, before)));
        if *must {
            counts.push(format!("(SELECT count(*) FROM c{place})"));
        }
        before += params;
    }
    let answer = if counts.is_empty() {
        "1".to_owned()
    } else {
        format!("1 / LEAST({})", counts.join(", "))
    };
    format!("WITH {} SELECT {answer}", parts.join(", "))
}

/// `text` with parameters that begin after `before` others.
fn renumbered(text: &str, before: usize) -> String {
    let mut renumbered = String::with_capacity(text.len() + 8);
    let mut parts = text.split('$');
    renumbered.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        match number.parse::<usize>() {
            Ok(number) => renumbered.push_str(&format!("${}", number + before)),
            Err(_) => renumbered.push_str(&format!("${number}")),
        }
        renumbered.push_str(rest);
    }
    renumbered
}

/// What a comment adds with these options.
fn optional(token: &str, locks: Locks) -> Option<&str> {
    let inner = token.strip_prefix("/*")?.strip_suffix("*/")?;
    let lock = inner.strip_prefix("lock ").filter(|_| locks.rows);
    lock.or_else(|| inner.strip_prefix("skip ").filter(|_| locks.rows && locks.skip))
}

/// A step of the schema.
pub(super) fn step(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() * 2);
    let tokens = tokens(sql);
    for statement in tokens.split_inclusive(|token| *token == ";") {
        if statement.contains(&FILE) {
            continue;
        }
        let words: Vec<&str> = statement.iter().copied().filter(|token| means(token)).collect();
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("CREATE"))
            && words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("TABLE"))
        {
            table(&mut text, statement, &words);
        } else {
            columns(&mut text, statement);
        }
    }
    text
}

/// Whether the token is more than space and comment.
fn means(token: &str) -> bool {
    !token.trim().is_empty() && !token.starts_with("--") && !token.starts_with("/*")
}

/// A statement that creates a table: without SQLite's options behind it.
fn table(text: &mut String, statement: &[&str], words: &[&str]) {
    let is = |word: &&str, name: &str| word.eq_ignore_ascii_case(name);
    let close = statement.iter().rposition(|token| *token == ")").unwrap_or(statement.len());
    let open = statement.iter().position(|token| *token == "(").unwrap_or(close);
    let options = statement.get(close..).unwrap_or_default();
    let keyed = words
        .windows(3)
        .any(|three| is(&three[0], "INTEGER") && is(&three[1], "PRIMARY") && is(&three[2], "KEY"));
    columns(text, statement.get(..=open).unwrap_or(statement));
    if !keyed && !options.iter().any(|token| is(token, "WITHOUT")) {
        text.push_str("\n  rowid BIGINT GENERATED BY DEFAULT AS IDENTITY,");
    }
    columns(text, statement.get(open + 1..close).unwrap_or_default());
    text.push_str(");");
}

/// Types of columns; everything else stays.
fn columns(text: &mut String, tokens: &[&str]) {
    let word = |from: usize, step: usize| -> &str {
        let rest = tokens.get(from..).unwrap_or_default();
        rest.iter().filter(|token| means(token)).nth(step).copied().unwrap_or("")
    };
    let mut before = "";
    for (place, token) in tokens.iter().enumerate() {
        if token.starts_with("--") {
            continue;
        }
        if let Some(own) = token.strip_prefix("/*server ").and_then(|it| it.strip_suffix("*/")) {
            text.push_str(own);
            continue;
        }
        match token.to_ascii_uppercase().as_str() {
            "INTEGER"
                if word(place, 1).eq_ignore_ascii_case("PRIMARY")
                    && word(place, 2).eq_ignore_ascii_case("KEY")
                    && matches!(word(place, 3), "," | ")" | "") =>
            {
                text.push_str("BIGINT GENERATED BY DEFAULT AS IDENTITY");
            }
            "INTEGER" => text.push_str("BIGINT"),
            "BLOB" => text.push_str("BYTEA"),
            // Not in a cast.
            "TEXT" if !before.eq_ignore_ascii_case("AS") => text.push_str("TEXT COLLATE \"C\""),
            _ => text.push_str(token),
        }
        if means(token) {
            before = token;
        }
    }
}

/// Words, literals, comments, parameters, spaces and single signs; nothing is lost.
fn tokens(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let word = |sign: char| sign.is_alphanumeric() || sign == '_';
        let length = match first {
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '?' => {
                1 + rest[1..].find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len() - 1)
            }
            sign if sign.is_whitespace() => {
                rest.find(|sign: char| !sign.is_whitespace()).unwrap_or(rest.len())
            }
            sign if word(sign) => rest.find(|sign| !word(sign)).unwrap_or(rest.len()),
            sign => sign.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Locks = Locks { rows: true, skip: true };

    #[test]
    fn parameters_are_numbered_as_before_and_literals_stay() {
        let sql = "SELECT a, '?1 it''s' FROM t WHERE b = ?1 AND c = ?12 -- ?3";
        let expected = "SELECT a, '?1 it''s' FROM t WHERE b = $1 AND c = $12 -- ?3";
        assert_eq!(statement(sql, ON), expected);
    }

    #[test]
    fn locks_are_comments_unless_they_are_on() {
        let sql = "SELECT 1 LIMIT ?1 /*lock FOR UPDATE*//*skip SKIP LOCKED*/)";
        for (rows, skip, expected) in [
            (true, true, "SELECT 1 LIMIT $1  FOR UPDATE SKIP LOCKED)"),
            (true, false, "SELECT 1 LIMIT $1  FOR UPDATE/*skip SKIP LOCKED*/)"),
            (false, true, "SELECT 1 LIMIT $1 /*lock FOR UPDATE*//*skip SKIP LOCKED*/)"),
        ] {
            assert_eq!(statement(sql, Locks { rows, skip }), expected);
        }
    }

    #[test]
    fn changes_that_can_be_made_together_are_one_statement() {
        let one = "UPDATE a SET x = $2 WHERE id = $1".to_owned();
        let two = "INSERT INTO b (x) VALUES ($1)".to_owned();
        assert_eq!(together(&[(two.clone(), 1, false)]), two);
        let expected = "WITH c0 AS (UPDATE a SET x = $2 WHERE id = $1 RETURNING 1), \
            c1 AS (INSERT INTO b (x) VALUES ($3) RETURNING 1) \
            SELECT 1 / LEAST((SELECT count(*) FROM c0))";
        assert_eq!(together(&[(one, 2, true), (two, 1, false)]), expected);
    }

    #[test]
    fn a_change_that_reads_is_made_alone() {
        assert_eq!(changes_only("UPDATE a SET x = 1"), Some("a"));
        assert_eq!(changes_only("INSERT INTO b (x) VALUES (?1)"), Some("b"));
        assert_eq!(changes_only("INSERT INTO b (x) SELECT x FROM a"), None);
        assert_eq!(changes_only("DELETE FROM a WHERE x = 1"), None);
    }

    #[test]
    fn a_step_says_on_postgresql_what_it_says_on_sqlite() {
        let sql = "-- Why.
CREATE TABLE a (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL DEFAULT 'TEXT, INTEGER', -- a text
  CHECK (length(CAST(id AS TEXT)) > 0)
) STRICT;
CREATE TABLE b (
  a INTEGER PRIMARY KEY REFERENCES a (id),
  bytes BLOB
) STRICT;
CREATE TABLE c (x TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE d (x TEXT) STRICT;
CREATE INDEX e ON d (x) WHERE x <> ';';
/*file*/ CREATE TABLE f (x TEXT CHECK (x <> ';')) STRICT;
ALTER TABLE d ADD COLUMN y INTEGER NOT NULL DEFAULT 0;
/*server SELECT 1;*/";
        let expected = "
CREATE TABLE a (
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  name TEXT COLLATE \"C\" NOT NULL DEFAULT 'TEXT, INTEGER', 
  CHECK (length(CAST(id AS TEXT)) > 0)
);
CREATE TABLE b (
  a BIGINT PRIMARY KEY REFERENCES a (id),
  bytes BYTEA
);
CREATE TABLE c (x TEXT COLLATE \"C\" PRIMARY KEY);
CREATE TABLE d (
  rowid BIGINT GENERATED BY DEFAULT AS IDENTITY,x TEXT COLLATE \"C\");
CREATE INDEX e ON d (x) WHERE x <> ';';
ALTER TABLE d ADD COLUMN y BIGINT NOT NULL DEFAULT 0;
SELECT 1;";
        assert_eq!(step(sql), expected);
    }
}
