<?php
/**
 * Finds the links of posts and asks whether they still lead somewhere.
 *
 * @package Broken_Link_Report
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

const BROKEN_LINK_REPORT_POSTS_PER_RUN = 5;
const BROKEN_LINK_REPORT_LINKS_PER_POST = 50;

/**
 * Where the last run stopped, and what it found: array( 'after' => post id, 'broken' => array( url => row ) ).
 */
function broken_link_report_state() {
	return wp_parse_args(
		get_option( 'broken_link_report_state', array() ),
		array(
			'after'  => 0,
			'broken' => array(),
		)
	);
}

/**
 * The distinct http(s) links in a text.
 *
 * @param string $content Post content.
 */
function broken_link_report_links( $content ) {
	preg_match_all( '/<a\s[^>]*href=(["\'])(https?:\/\/[^"\']+)\1/i', $content, $found );

	return array_slice( array_unique( array_map( 'html_entity_decode', $found[2] ) ), 0, BROKEN_LINK_REPORT_LINKS_PER_POST );
}

/**
 * The reason why a link fails, or an empty string.
 *
 * @param string $url The link.
 */
function broken_link_report_reason( $url ) {
	$arguments = array(
		'timeout'     => 10,
		'redirection' => 5,
	);

	$response = wp_safe_remote_head( $url, $arguments );
	if ( is_wp_error( $response ) ) {
		return $response->get_error_message();
	}

	$status = wp_remote_retrieve_response_code( $response );

	return in_array( $status, array( 404, 410 ), true ) ? 'HTTP ' . $status : '';
}

/**
 * Checks the next few posts; starts again from the first when it has seen the last.
 */
function broken_link_report_check_some() {
	global $wpdb;

	$state = broken_link_report_state();
	$posts = $wpdb->get_results(
		$wpdb->prepare(
			"SELECT ID, post_title, post_content FROM {$wpdb->posts}
			WHERE post_status = 'publish' AND post_type IN ('post', 'page') AND ID > %d ORDER BY ID LIMIT %d",
			$state['after'],
			BROKEN_LINK_REPORT_POSTS_PER_RUN
		)
	);

	foreach ( $posts as $post ) {
		foreach ( broken_link_report_links( $post->post_content ) as $url ) {
			$reason = broken_link_report_reason( $url );
			unset( $state['broken'][ $url ] );
			if ( '' !== $reason ) {
				$state['broken'][ $url ] = array(
					'post'   => (int) $post->ID,
					'reason' => $reason,
					'seen'   => time(),
				);
			}
		}
	}

	$state['after'] = $posts ? (int) end( $posts )->ID : 0;
	update_option( 'broken_link_report_state', $state, false );
}
