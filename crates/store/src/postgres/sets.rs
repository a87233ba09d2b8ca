//! Statements over many rows of parameters at once, made of those over one. Pure functions of texts.
//!
//! The parameters come as one array for each place; `v.p1`, `v.p2` … stand where `?1`, `?2` … stood, and `v.n` numbers
//! the rows. What cannot be said so is None.

use super::dialect;

/// The question `sql` for each row; its columns come first, and then the number of the row. A row without an answer
/// has none.
pub(super) fn question(sql: &str, params: usize) -> Option<String> {
    if !sql.starts_with("SELECT") {
        return None;
    }
    let (rows, each) = (rows(params), places(sql));
    Some(format!("SELECT t.*, v.n FROM {rows} JOIN LATERAL ({each}) t ON TRUE ORDER BY v.n"))
}

/// The same behind `first`, with a row also where there is no answer: then all columns of `sql` are null.
pub(super) fn question_behind(first: &str, sql: &str, params: usize) -> Option<String> {
    if !sql.starts_with("SELECT") {
        return None;
    }
    let (rows, each) = (rows(params), places(sql));
    Some(format!(
        "SELECT {first}, t.*, v.n FROM {rows} LEFT JOIN LATERAL ({each}) t ON TRUE ORDER BY v.n"
    ))
}

/// The change `sql` with each row. Where each `must` change something, all fail with a division by zero unless as many
/// rows were changed as there are rows of parameters.
pub(super) fn change(sql: &str, params: usize, must: bool) -> Option<String> {
    if params == 0 || sql.matches("SELECT").count() > 0 {
        return None;
    }
    let text = if sql.starts_with("INSERT INTO ") {
        inserted(sql, params)?
    } else if sql.starts_with("UPDATE ") {
        updated(sql, params)?
    } else {
        return None;
    };
    Some(if must {
        format!(
            "WITH c AS ({text} RETURNING 1) SELECT 1 / CAST((SELECT count(*) FROM c) = cardinality($1) AS INT)"
        )
    } else {
        text
    })
}

/// `INSERT … VALUES (…) …`, one row of values, and no parameter behind it.
fn inserted(sql: &str, params: usize) -> Option<String> {
    let (into, rest) = sql.split_once("VALUES (")?;
    let (values, behind) = rest.split_once(')')?;
    if values.contains('(') || behind.contains('?') || behind.trim_start().starts_with(',') {
        return None;
    }
    Some(format!("{into}SELECT {} FROM {}{behind}", places(values), rows(params)))
}

/// `UPDATE … SET … WHERE …` of one table.
fn updated(sql: &str, params: usize) -> Option<String> {
    let mut parts = sql.split("WHERE");
    let (set, condition) = (parts.next()?, parts.next()?);
    if parts.next().is_some() || sql.contains(" FROM ") {
        return None;
    }
    Some(format!("{}FROM {} WHERE{}", places(set), rows(params), places(condition)))
}

fn rows(params: usize) -> String {
    let numbered = |text: &str| {
        let each: Vec<String> = (1..=params).map(|place| format!("{text}{place}")).collect();
        each.join(", ")
    };
    format!("unnest({}) WITH ORDINALITY AS v ({}, n)", numbered("$"), numbered("p"))
}

/// `sql` with `v.p1` for `?1`, and without what is there for other options: whoever asks so holds the locks.
fn places(sql: &str) -> String {
    let locks = dialect::Locks { rows: false, skip: false };
    dialect::statement(sql, locks).replace('$', "v.p")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_for_each_row() {
        let sql = "SELECT a FROM t WHERE b = ?1 AND c = ?2";
        let each = "(SELECT a FROM t WHERE b = v.p1 AND c = v.p2) t ON TRUE ORDER BY v.n";
        let rows = "unnest($1, $2) WITH ORDINALITY AS v (p1, p2, n)";
        assert_eq!(
            question(sql, 2),
            Some(format!("SELECT t.*, v.n FROM {rows} JOIN LATERAL {each}"))
        );
        let behind = Some(format!("SELECT now(), t.*, v.n FROM {rows} LEFT JOIN LATERAL {each}"));
        assert_eq!(question_behind("now()", sql, 2), behind);
    }

    #[test]
    fn a_change_is_made_with_each_row() {
        let rows = "unnest($1, $2) WITH ORDINALITY AS v (p1, p2, n)";
        assert_eq!(
            change(
                "INSERT INTO a (x, y, z) VALUES (?1, 0, ?2) ON CONFLICT (x) DO NOTHING",
                2,
                false
            ),
            Some(format!(
                "INSERT INTO a (x, y, z) SELECT v.p1, 0, v.p2 FROM {rows} ON CONFLICT (x) DO NOTHING"
            ))
        );
        assert_eq!(
            change("UPDATE a SET x = ?2 WHERE id = ?1 AND x < ?2", 2, true),
            Some(format!(
                "WITH c AS (UPDATE a SET x = v.p2 FROM {rows} WHERE id = v.p1 AND x < v.p2 RETURNING 1) \
                 SELECT 1 / CAST((SELECT count(*) FROM c) = cardinality($1) AS INT)"
            ))
        );
    }

    #[test]
    fn what_cannot_be_said_for_many_rows_is_left() {
        for sql in [
            "INSERT INTO a (x) SELECT x FROM b WHERE y = ?1",
            "INSERT INTO a (x) VALUES (?1), (?2)",
            "INSERT INTO a (x) VALUES (length(?1))",
            "INSERT INTO a (x) VALUES (?1) ON CONFLICT (x) DO UPDATE SET x = a.x WHERE a.y < ?2",
            "UPDATE a SET x = (SELECT max(x) FROM b) WHERE id = ?1",
            "UPDATE a SET x = b.x FROM b WHERE a.id = ?1",
            "DELETE FROM a WHERE id = ?1",
        ] {
            assert_eq!(change(sql, 2, false), None, "{sql}");
        }
        assert_eq!(change("UPDATE a SET x = 1 WHERE y = 2", 0, false), None);
        assert_eq!(question("DELETE FROM a RETURNING x", 1), None);
    }
}
