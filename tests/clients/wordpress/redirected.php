<?php
/**
 * Plugin Name: Redirected
 * Description: For the tests: asks another server what WordPress would ask api.wordpress.org, all of it, as AspireUpdate
 *              does. (That keeps https; on loopback there is none.)
 */

add_filter(
	'pre_http_request',
	function ( $answer, $arguments, $url ) {
		$asked = str_replace( array( 'https://api.wordpress.org', 'http://api.wordpress.org' ), getenv( 'SITE_REDIRECTED_TO' ), $url );
		return $asked === $url ? $answer : wp_remote_request( $asked, $arguments );
	},
	10,
	3
);
