//! Medians, and tables of Markdown.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// The middle one, or the mean of the two in the middle; none of none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = numbers.get(middle)?;
    if numbers.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(f64::midpoint(*upper, *numbers.get(middle.checked_sub(1)?)?))
}

/// The value that 99 in 100 do not exceed.
pub(crate) fn p99(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let at = (numbers.len() * 99).div_ceil(100).checked_sub(1)?;
    numbers.get(at).copied()
}

/// So many digits after the point; a dash where there is no number.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// A table with the words on the left and the numbers on the right.
pub(crate) fn markdown(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
