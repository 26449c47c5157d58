//! What a generation starts from: the decoder's first tokens and the mask over a padded prompt, as
//! transformers 4.37.2's `generate` makes them where the caller gives none. Text and tokenizers stay outside.

use super::config::GenerationConfig;
use super::error::GenerateError;

/// The prompt of a decoder beside an encoder: `given` rows, led by the start token where none of them has it
/// yet; without rows the start token alone, for each of `batch` items.
///
/// # Errors
/// Where the settings name no start token.
pub fn decoder_prompt(
    config: &GenerationConfig,
    batch: usize,
    given: Option<&[Vec<i64>]>,
) -> Result<Vec<Vec<i64>>, GenerateError> {
    let start = config.decoder_start()?;
    let Some(rows) = given else {
        return Ok(vec![vec![start]; batch]);
    };
    if rows.iter().any(|row| row.first() == Some(&start)) {
        return Ok(rows.to_vec());
    }
    Ok(rows.iter().map(|row| std::iter::once(start).chain(row.iter().copied()).collect()).collect())
}

/// The prompt of a model without encoder that is given no tokens: `bos_token_id` for each of `batch` items.
///
/// # Errors
/// Where the settings name no such token.
pub fn empty_prompt(config: &GenerationConfig, batch: usize) -> Result<Vec<Vec<i64>>, GenerateError> {
    let Some(bos) = config.bos_token_id else {
        let expected = "it must be set where no input_ids are given";
        return Err(GenerateError::invalid("bos_token_id", config.bos_token_id, expected));
    };
    Ok(vec![vec![bos]; batch])
}

/// The attention mask of a prompt that comes without one: 0 over padding where padding differs from
/// end-of-sequence, else 1 everywhere. `[batch, tokens]`, row after row.
pub fn attention_mask(config: &GenerationConfig, prompt: &[Vec<i64>]) -> Vec<i64> {
    let padding = config.pad().filter(|pad| !config.eos().contains(pad));
    prompt.iter().flatten().map(|token| i64::from(Some(*token) != padding)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_token_leads_unless_a_row_has_it() {
        let config = GenerationConfig { bos_token_id: Some(7), ..GenerationConfig::default() };
        assert_eq!(decoder_prompt(&config, 2, None).unwrap(), [[7], [7]]);
        assert_eq!(decoder_prompt(&config, 1, Some(&[vec![3, 4]])).unwrap(), [[7, 3, 4]]);
        assert_eq!(decoder_prompt(&config, 2, Some(&[vec![3], vec![7]])).unwrap(), [[3], [7]]);
        assert_eq!(empty_prompt(&config, 1).unwrap(), [[7]]);
        let none = GenerationConfig::default();
        assert!(decoder_prompt(&none, 1, None).is_err() && empty_prompt(&none, 1).is_err());
    }

    #[test]
    fn padding_is_masked_unless_it_is_the_end() {
        let mut config = GenerationConfig { pad_token_id: Some(0), ..GenerationConfig::default() };
        let prompt = [vec![0, 5], vec![4, 5]];
        assert_eq!(attention_mask(&config, &prompt), [0, 1, 1, 1]);
        config.eos_token_id = Some(vec![2, 0]);
        assert_eq!(attention_mask(&config, &prompt), [1, 1, 1, 1]);
    }
}
