<?php
/**
 * Plugin Name: Loopback only
 * Description: For the tests: what is asked of wordpress.org gets an answer that offers nothing, and other servers on
 *              this machine may be asked whatever their port; nothing else goes out.
 */

add_filter( 'http_request_host_is_external', '__return_true' );
add_filter(
	'http_allowed_safe_ports',
	function ( $ports, $host, $url ) {
		return array_merge( $ports, array( (int) wp_parse_url( $url, PHP_URL_PORT ) ) );
	},
	10,
	3
);

/**
 * Nobody gets mail from these sites.
 */
function wp_mail() {
	return true;
}

add_filter(
	'pre_http_request',
	function ( $answer, $arguments, $url ) {
		if ( false !== $answer || '127.0.0.1' === wp_parse_url( $url, PHP_URL_HOST ) ) {
			return $answer;
		}
		$path    = (string) wp_parse_url( $url, PHP_URL_PATH );
		$answers = array(
			'/plugins/update-check/1.1/' => '{"plugins":{},"translations":[],"no_update":{}}',
			'/themes/update-check/1.1/'  => '{"themes":{},"translations":[],"no_update":{}}',
			'/core/version-check/1.7/'   => '{"offers":[],"translations":[]}',
			'/plugins/info/1.2/'         => '{"error":"Plugin not found."}',
		);
		// What a site of these tests learns from wordpress.org may be changed by the test.
		$answers = array_merge( $answers, (array) get_option( 'wordpress_org_answers', array() ) );
		return array(
			'headers'  => array(),
			'body'     => isset( $answers[ $path ] ) ? $answers[ $path ] : '{}',
			'response' => array(
				'code'    => 200,
				'message' => 'OK',
			),
			'cookies'  => array(),
			'filename' => null,
		);
	},
	100,
	3
);
