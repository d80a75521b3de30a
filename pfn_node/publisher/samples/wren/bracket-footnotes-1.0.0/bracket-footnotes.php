<?php
/**
 * Plugin Name:       Bracket Footnotes
 * Description:       Turns ((text in double brackets)) into numbered footnotes with links there and back.
 * Version:           1.0.0
 * Requires at least: 5.8
 * Requires PHP:      7.4
 * Author:            Wren
 * License:           GPL-3.0-only
 * Text Domain:       bracket-footnotes
 *
 * @package Bracket_Footnotes
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

/**
 * Replaces each ((note)) by a number, and lists the notes below the content.
 *
 * @param string $content Post content.
 */
function bracket_footnotes( $content ) {
	if ( false === strpos( $content, '((' ) ) {
		return $content;
	}

	$id      = (int) get_the_ID();
	$notes   = array();
	$content = preg_replace_callback(
		'/\s?\(\((.+?)\)\)/s',
		function ( $found ) use ( &$notes, $id ) {
			$notes[] = $found[1];
			$number  = count( $notes );

			return sprintf( '<sup id="ref-%1$d-%2$d"><a href="#note-%1$d-%2$d">%2$d</a></sup>', $id, $number );
		},
		$content
	);

	$items = '';
	foreach ( $notes as $index => $note ) {
		$items .= sprintf(
			'<li id="note-%1$d-%2$d">%3$s <a href="#ref-%1$d-%2$d" aria-label="%4$s">↩</a></li>',
			$id,
			$index + 1,
			wp_kses_post( $note ),
			esc_attr__( 'Back to the text', 'bracket-footnotes' )
		);
	}

	return $content . ( $items ? '<ol class="footnotes">' . $items . '</ol>' : '' );
}
add_filter( 'the_content', 'bracket_footnotes', 11 );
