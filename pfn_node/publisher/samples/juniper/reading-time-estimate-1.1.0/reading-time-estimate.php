<?php
/**
 * Plugin Name:       Reading Time Estimate
 * Description:       Shows above each post how many minutes it takes to read.
 * Version:           1.1.0
 * Requires at least: 5.8
 * Requires PHP:      7.4
 * Author:            Juniper
 * License:           GPL-3.0-only
 * Text Domain:       reading-time-estimate
 *
 * @package Reading_Time_Estimate
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

const READING_TIME_WORDS_PER_MINUTE = 220;
const READING_TIME_SECONDS_PER_IMAGE = 12;

/**
 * Whole minutes that a text takes to read; at least one.
 *
 * @param string $content Post content, markup included.
 */
function reading_time_minutes( $content ) {
	$text  = wp_strip_all_tags( strip_shortcodes( $content ) );
	$words = preg_match_all( '/[\p{L}\p{N}][\p{L}\p{N}\'’-]*/u', $text );

	// Chinese, Japanese and Thai are written without spaces: two characters are read about as fast as one word.
	$dense  = preg_match_all( '/[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]/u', $text );
	$images = substr_count( $content, '<img ' );
	$pause  = $images * READING_TIME_SECONDS_PER_IMAGE / MINUTE_IN_SECONDS;

	return max( 1, (int) ceil( ( $words + $dense / 2 ) / READING_TIME_WORDS_PER_MINUTE + $pause ) );
}

/**
 * Puts the estimate before the content of a single post.
 *
 * @param string $content Post content as it is about to be shown.
 */
function reading_time_prepend( $content ) {
	if ( ! is_singular( 'post' ) || ! in_the_loop() || ! is_main_query() ) {
		return $content;
	}

	$minutes = reading_time_minutes( $content );
	$label   = sprintf(
		/* translators: %d: number of minutes */
		_n( '%d minute to read', '%d minutes to read', $minutes, 'reading-time-estimate' ),
		$minutes
	);

	/**
	 * Filters the line that is shown above a post.
	 *
	 * @param string $label   The text.
	 * @param int    $minutes The estimate.
	 */
	$label = apply_filters( 'reading_time_label', $label, $minutes );

	return '<p class="reading-time">' . esc_html( $label ) . '</p>' . $content;
}
add_filter( 'the_content', 'reading_time_prepend' );
