<?php
/**
 * The list under Tools > Broken Links.
 *
 * @package Broken_Link_Report
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

/**
 * Adds the page for everyone who may edit others' posts.
 */
function broken_link_report_menu() {
	add_management_page(
		__( 'Broken Links', 'broken-link-report' ),
		__( 'Broken Links', 'broken-link-report' ),
		'edit_others_posts',
		'broken-link-report',
		'broken_link_report_page'
	);
}

/**
 * Prints the list.
 */
function broken_link_report_page() {
	$broken = broken_link_report_state()['broken'];

	echo '<div class="wrap"><h1>' . esc_html__( 'Broken Links', 'broken-link-report' ) . '</h1>';
	if ( ! $broken ) {
		echo '<p>' . esc_html__( 'No broken link was found so far.', 'broken-link-report' ) . '</p></div>';
		return;
	}

	echo '<table class="widefat striped"><thead><tr>';
	foreach ( array( __( 'Link', 'broken-link-report' ), __( 'In', 'broken-link-report' ), __( 'Why', 'broken-link-report' ) ) as $heading ) {
		echo '<th scope="col">' . esc_html( $heading ) . '</th>';
	}
	echo '</tr></thead><tbody>';
	foreach ( $broken as $url => $row ) {
		printf(
			'<tr><td>%1$s</td><td><a href="%2$s">%3$s</a></td><td>%4$s</td></tr>',
			esc_html( $url ),
			esc_url( (string) get_edit_post_link( $row['post'] ) ),
			esc_html( get_the_title( $row['post'] ) ),
			esc_html( $row['reason'] )
		);
	}
	echo '</tbody></table></div>';
}
